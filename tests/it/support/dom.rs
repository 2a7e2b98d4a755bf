//! Pages as plain trees, by html5ever: the parser of the tests, apart from the proxy's rewriter.

use html5ever::tendril::TendrilSink;
use html5ever::tree_builder::TreeBuilderOpts;
use html5ever::{ParseOpts, parse_document};
use markup5ever_rcdom::{Handle, NodeData, RcDom};

/// A node of a page.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    /// An element.
    Element(Element),
    /// Text; neighbours are joined.
    Text(String),
    /// A comment.
    Comment(String),
    /// The document type.
    Doctype(String),
}

/// An element.
#[derive(Debug, Clone, PartialEq)]
pub struct Element {
    /// Local name.
    pub name: String,
    /// Attributes; a prefix is kept (`xlink:href`).
    pub attrs: Vec<(String, String)>,
    /// Children; a template's content too.
    pub children: Vec<Node>,
}

impl Element {
    /// An attribute's value.
    pub fn attr(&self, name: &str) -> Option<&str> {
        self.attrs.iter().find(|(attr, _)| attr == name).map(|(_, value)| value.as_str())
    }

    /// All text directly inside.
    pub fn text(&self) -> String {
        self.children
            .iter()
            .filter_map(|n| if let Node::Text(t) = n { Some(t.as_str()) } else { None })
            .collect()
    }

    /// Calls `each` for this element and all below.
    pub fn walk<'a>(&'a self, each: &mut impl FnMut(&'a Self)) {
        each(self);
        for child in &self.children {
            if let Node::Element(element) = child {
                element.walk(each);
            }
        }
    }
}

/// Parses a page; the root is an element named `#document`.
pub fn parse(text: &str, scripting: bool) -> Element {
    let tree_builder = TreeBuilderOpts { scripting_enabled: scripting, ..TreeBuilderOpts::default() };
    let opts = ParseOpts { tree_builder, ..ParseOpts::default() };
    let dom = parse_document(RcDom::default(), opts).one(text);
    Element { name: "#document".to_owned(), attrs: Vec::new(), children: children(&dom.document) }
}

fn children(handle: &Handle) -> Vec<Node> {
    let mut nodes = Vec::new();
    for child in handle.children.borrow().iter() {
        push(&mut nodes, node(child));
    }
    nodes
}

/// Adds a node; text joins the text before it.
pub fn push(nodes: &mut Vec<Node>, node: Option<Node>) {
    match (nodes.last_mut(), node) {
        (Some(Node::Text(before)), Some(Node::Text(text))) => before.push_str(&text),
        (_, Some(node)) => nodes.push(node),
        (_, None) => {}
    }
}

fn node(handle: &Handle) -> Option<Node> {
    Some(match &handle.data {
        NodeData::Document | NodeData::ProcessingInstruction { .. } => return None,
        NodeData::Doctype { name, public_id, system_id } => {
            Node::Doctype(format!("{name} {public_id} {system_id}"))
        }
        NodeData::Text { contents } => Node::Text(contents.borrow().to_string()),
        NodeData::Comment { contents } => Node::Comment(contents.to_string()),
        NodeData::Element { name, attrs, template_contents, .. } => {
            let attrs = attrs.borrow();
            let attrs = attrs.iter().map(|a| {
                let prefix = a.name.prefix.as_ref().map(|p| format!("{p}:")).unwrap_or_default();
                (format!("{prefix}{}", a.name.local), a.value.to_string())
            });
            let attrs = attrs.collect();
            let mut nodes = children(handle);
            if let Some(content) = template_contents.borrow().as_ref() {
                nodes.extend(children(content));
            }
            Node::Element(Element { name: name.local.to_string(), attrs, children: nodes })
        }
    })
}
