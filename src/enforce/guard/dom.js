// What a document can do. `guard` is run on every window of this origin that has no guard of its own.
var TEXT = E ? E.textContent : "", NONCE = E && E.nonce || "", SIGNAL = !!E && E.getAttribute("data-gpc") == "1";
var createURL = nativeURL.createObjectURL, lent = new Set();
var inert = D.implementation.createHTMLDocument(""), shelf = inert.createElement("template");
var gone = new WeakSet(), plain = new WeakMap(), styles = new WeakMap(), pages = new WeakMap(), streams = new WeakMap();
var KINDS = /html|xml|css|script/i;
var trusted = { createHTML: text => text, createScriptURL: text => text, createScript: text => text };
try {
  trusted = W.trustedTypes.createPolicy("optgate", trusted);
} catch (e) {}
var own = D.location.hostname || new nativeURL(D.baseURI, "http://x").hostname.replace(/^x$/, "");
var origin = /^http/.test(D.location.protocol) ? D.location.origin : new nativeURL(D.baseURI, "http://x").origin;
var { closest, getAttribute, setAttribute, removeAttribute } = W.Element.prototype, { open, send } = W.XMLHttpRequest.prototype;
var setMarkup = descriptor(W.Element.prototype, "innerHTML").set;
var parseDocument = W.DOMParser.prototype.parseFromString;

function base() {
  return D.baseURI;
}

function asset(name) {
  return ASSETS.replace(/^(?=\/)/, origin) + name;
}

// What takes the place of a tracker's file: it loads, and so nothing on the page waits in vain.
function standIn(tag) {
  return /^(i?frame|object|embed|portal)$/.test(tag) ? "about:blank"
    : trusted.createScriptURL(asset(tag == "script" ? "e.js" : tag == "link" ? "e.css" : "e.gif"));
}

// The value an attribute may have: the same one, another one, or undefined for none.
function value(element, name, given) {
  var tag = element ? element.localName : "";
  switch (name) {
    case "href":
      if (/^(a|area)$/.test(tag)) return given;
      if (tag == "base") return tracker(given, 1) ? undefined : given;
      if (tag == "link" && /preconnect|dns-prefetch/i.test(element.rel) && tracker(given, 1)) return standIn(tag);
    case "src": case "data": case "poster": case "background": case "lowsrc": case "codebase":
      return address(element, tag, given);
    case "rel":
      if (tag == "link" && /preconnect|dns-prefetch/i.test(given) && tracker(element.href, 1)) element.removeAttribute("href");
      return given;
    case "srcset": case "imagesrcset":
      return candidates(given);
    case "ping": case "attributionsrc":
      return (given + "").split(/\s+/).some(url => url && tracker(url)) ? undefined : given;
    case "srcdoc":
      return trusted.createHTML(page(given));
    case "content":
      var refresh = tag == "meta" && /^\s*[\d.]+[\s;,]*(?:url\s*=\s*)?["']?([^"']+)/i.exec(given);
      return refresh && tracker(refresh[1]) ? undefined : given;
    case "integrity":
      return gone.has(element) ? undefined : given;
    case "to": case "from": case "by": case "values":
      return (given + "").split(";").some(url => /[\\\/]\s*[\\\/]/.test(url) && tracker(url)) ? undefined : given;
    case "browsingtopics": case "sharedstoragewritable": case "adauctionheaders":
      return undefined;
    case "style": case "fill": case "stroke": case "filter": case "mask": case "clip-path": case "cursor":
    case "marker-start": case "marker-mid": case "marker-end":
      return css(given);
  }
  return given;
}

function address(element, tag, given) {
  var text = given + "", found = /^[\0- ]*d\s*a\s*t\s*a\s*:([^,]*),([^#]*)([^]*)/i.exec(text);
  if (found) try {
    var type = found[1].replace(/\s/g, ""), body = KINDS.test(type) ? unescaped(found[2]) : "";
    if (/;base64$/i.test(type)) body = unescaped(escape(W.atob(body)));
    var clean = within(type, body);
    if (clean != body) return trusted.createScriptURL(`data:${type.split(";")[0]};charset=utf-8,${encodeURIComponent(clean)}${found[3]}`);
  } catch (e) {}
  if (found = /^[\0- ]*j\s*a\s*v\s*a\s*s\s*c\s*r\s*i\s*p\s*t\s*:([^]*)/i.exec(text)) return /^(i?frame|object|embed)$/.test(tag) ? scripted(found[1], given) : given;
  if (!tracker(text)) return given;
  if (element) {
    gone.add(element);
    apply(removeAttribute, element, ["integrity"]);
  }
  return standIn(tag);
}

// A frame's document that a `javascript:` address makes: cleaned, where the page's policy lets us see it.
function scripted(text, given) {
  var code = unescaped(text), begin = `parent[Symbol.for("optgate")].page((0,eval)(`;
  if (code.startsWith(begin)) return given;
  if (css(code) != code) return "about:blank";
  try {
    (0, W.eval)("0");
  } catch (e) {
    return given;
  }
  return "javascript:" + encodeURIComponent(`${begin}${JSON.stringify(code)}))`);
}

function unescaped(text) {
  try {
    return decodeURIComponent(text);
  } catch (e) {
    return unescape(text);
  }
}

// A document, style or script that stands in an address or a blob.
function within(type, text) {
  return /\/html/i.test(type) ? page(text) : /script/i.test(type) ? imports(text, 1) : KINDS.test(type) ? css(text) : text;
}

// What stands in a blob; nothing where the page's policy forbids to ask.
function read(blob) {
  var request = new W.XMLHttpRequest(), url = createURL(blob);
  try {
    apply(open, request, ["GET", url, false]);
    apply(send, request, []);
  } catch (e) {}
  nativeURL.revokeObjectURL(url);
  return request.responseText;
}

// `srcset`: candidates go one by one.
function candidates(given) {
  var rest = given + "", kept = [], found, changed;
  while (found = /^[\s,]*([^\s,]\S*)([^]*)$/.exec(rest)) {
    var url = found[1], size = "";
    rest = found[2];
    if (/,$/.test(url)) url = url.replace(/,+$/, "");
    else {
      size = /^(?:\([^)]*\)|[^,(])*/.exec(rest)[0];
      rest = rest.slice(size.length);
    }
    if (tracker(url)) changed = 1;
    else kept.push(url + size);
  }
  return changed ? kept.join(", ") || standIn("img") : given;
}

// Style text, and any other text that may hold addresses: those of trackers are replaced. Escapes that
// hide one cost the whole text.
function css(given, standIn) {
  var text = given + "", url = /(?:https?|wss?):[^\s"'()<>]+|[\\\/]{2}[^\s"'()<>]+/gi;
  if (!/[:\\\/]\s*[\\\/]|\\|https?:/i.test(text)) return given;
  var clean = text.replace(url, found => tracker(found) ? asset(standIn || "e.gif") : found);
  if (/[\\\t\n\r\f]/.test(clean)) {
    var bare = clean.replace(/\\([0-9a-f]{1,6})\s?|\\(?:\r\n|[^])/gi, (all, code) => code ? String.fromCodePoint(Math.min(parseInt(code, 16), 0x10ffff)) : all.slice(1)).replace(/[\t\n\r\f]/g, "");
    if (bare.replace(url, found => tracker(found) ? "" : found) != bare && /\\|url\([^)]*[\t\n\r\f]/i.test(clean)) return "";
  }
  return clean == text ? given : clean;
}

// A whole document in a text: cleaned, with this guard before everything else.
function page(given) {
  var text = given + "";
  if (text.includes(TEXT)) return text;
  var parsed = apply(parseDocument, new W.DOMParser(), [trusted.createHTML(text), "text/html"]);
  if (scrub(parsed)) text = (parsed.doctype ? "<!doctype html>" : "") + parsed.documentElement.outerHTML;
  var guard = `<script data-optgate="guard"${SIGNAL ? ' data-gpc="1"' : ""}${NONCE && ` nonce="${NONCE}"`}>${TEXT}<\/script>`;
  return text.replace(/^((?:\s|<!-\x2d[^]*?-->)*<!doctype[^>]*>)?/i, start => start + guard);
}

// Neutralises what stands below a node that is not shown yet. Whether anything had to be. `ran`: its scripts
// have run, so that nothing is asked of them any more.
function scrub(node, ran) {
  var changed = false, elements = node.querySelectorAll ? [...node.querySelectorAll("*")] : [];
  if (node.nodeType == 1) elements.unshift(node);
  elements.forEach(element => {
    [...element.attributes].forEach(attribute => {
      var given = attribute.value, may = value(element, attribute.localName.toLowerCase(), given);
      if (may === given || may + "" == given) return;
      changed = true;
      if (may === undefined) element.removeAttributeNode(attribute);
      else apply(setAttribute, element, [attribute.name, may]);
    });
    if (/^(style|script)$/.test(element.localName)) {
      var text = element.textContent, clean = inside(element, text, ran);
      if (clean != text) {
        element.textContent = clean;
        changed = true;
      }
    }
    if (element.content && element.content.nodeType) changed = scrub(element.content) || changed;
    if (element.shadowRoot) changed = scrub(element.shadowRoot) || changed;
  });
  return changed;
}

// The text that an element of styles, rules or script may have.
function inside(element, given, ran) {
  var tag = element ? element.localName : "";
  return tag == "style" ? css(given)
    : tag != "script" ? given
    : /^(speculationrules|importmap)$/i.test(element.type) ? css(given, "e.js") : imports(given, !ran && /^$|script|module/i.test(element.type || ""));
}

// Script text: nobody can patch `import`, but what it names can be changed, and what it is given be judged.
// Strings, comments and patterns are told from code; of the calls, by their brackets, where what is given ends.
function imports(given, runs) {
  var text = given + "", out = [], opens = [], last = "", at = 0;
  var part = /\s+|\/\/.*|\/\*[^]*?\*\/|(["'`])(?:\\[^]|(?!\1)[^\\])*\1|\.{3}|[.#]?[\w$]+|[^]/y;
  var pattern = /\/(?![*\/])(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^\/\\\[\n])+\//y;
  if (!/\b(import|from)\b/.test(text)) return given;
  while (at < text.length) {
    pattern.lastIndex = part.lastIndex = at;
    var token = ((!/[\w$)\]}"'`]$/.test(last) || /^(return|typeof|case)$/.test(last)) && pattern.exec(text) || part.exec(text))[0];
    at += token.length;
    if (!/^(\s|\/[\/*])/.test(token)) {
      var call = last == "import" && token == "(", open = opens[0];
      if (/^["'`]./.test(token) && /^(import\(?|from)$/.test(last) && tracker(token.slice(1, -1).replace(/\\(?:u\{(.+?)\}|u(.{4})|x(..)|)/g, (all, one, two, three) => (one = one || two || three) ? String.fromCodePoint(parseInt(one, 16)) : ""))) token = JSON.stringify(asset("e.js"));
      last = call ? "import(" : token;
      if (/^[([{]$/.test(token)) opens.unshift(call && runs && !text.startsWith("optgateImport", at) && [out.length]);
      if (token == "," && open) open.push(out.length);
      if (/^[)\]}]$/.test(token)) {
        opens.shift();
        // With a body behind it, it is a method of that name.
        if (open && !/^\s*\{/.test(text.slice(at, at + 9))) {
          out[open[0]] += "optgateImport(";
          if (open[1]) out[open[1]] = ")" + out[open[1]];
          else token = ")" + token;
        }
      }
    }
    out.push(token);
  }
  out = out.join("");
  return out == text ? given : trusted.createScript(out);
}

// Markup that would leak, as nodes that do not; nothing when it may go in as it is.
function markup(context, given, set) {
  var text = given + "";
  if (!/[\\\/]\s*[\\\/]|&(?!amp;|nbsp;|lt;|gt;|quot;)|https?:|srcdoc|data:/i.test(text)) return;
  var box = inert.importNode(context && context.nodeType == 1 ? context : shelf, false);
  apply(set || setMarkup, box, [given]);
  var root = box.content || box;
  return scrub(root) && [...root.childNodes];
}

// The same as markup, which must stay harmless when it is read again.
function tidy(context, text) {
  for (var nodes, left = 3; left-- && (nodes = markup(context, text));) {
    var box = inert.createElement(context && context.localName == "style" ? "style" : "p");
    box.append(...nodes);
    text = trusted.createHTML(box.innerHTML);
  }
  return text;
}

// `document.write`: markup in pieces, so tag by tag. What is unfinished waits for its rest.
function written(document, text) {
  var stream = streams.get(document), out = "", at = 0, close;
  if (!stream) streams.set(document, stream = { held: "", raw: "" });
  text = stream.held + text;
  stream.held = "";
  while (at < text.length) {
    var rest = text.slice(at), open;
    if (stream.raw) {
      open = rest.search(new RegExp("</" + stream.raw + "(?=[\\s/>])", "i"));
      if (open >= 0) out += inside({ localName: stream.raw }, rest.slice(0, open));
    } else {
      open = (rest + "<").indexOf("<");
      out += rest.slice(0, open);
    }
    if (open >= 0) {
      stream.raw = "";
      at += open;
      rest = rest.slice(open);
    }
    // Where it ends: the tag, or else the first mark of it.
    var name = /^<(\/?)([a-z][^\s\/>]*)/i.exec(rest), end = /<[^>=]*(?:=\s*(?:"[^"]*"|'[^']*'|[^"'\s>][^\s>]*(?=[\s>]|$)|(?=>))[^>=]*)*>/y;
    close = open < 0 ? open : name ? (end.test(rest), end.lastIndex - 1) : /^<!-\x2d/.test(rest) ? rest.indexOf("-->") : /^<(!-?|\/)?$/.test(rest) ? -1 : 0;
    if (close < 0) {
      stream.held = rest;
      break;
    }
    at += ++close;
    var tag = rest.slice(0, close), opens = name && !name[1];
    out += opens ? startTag(tag) : tag;
    if (opens && /^(script|style|textarea|title|xmp|iframe|noembed|noframes|noscript)$/i.test(name[2])) stream.raw = name[2];
  }
  return out;
}

function startTag(tag) {
  if (!/=/.test(tag)) return tag;
  apply(setMarkup, shelf, [trusted.createHTML(tag)]);
  var element = shelf.content.firstElementChild;
  return element && scrub(element) ? element.outerHTML.replace(/<\/[^>]*>$/, "") : tag;
}

function guard(W) {
  if (!W || W[MARK]) return;
  define(W, MARK, { value: { page: html => typeof html == "string" ? page(html) : html } });
  var D = W.document, last;
  var proto = name => W[name] && W[name].prototype, names = Object.getOwnPropertyNames(W);
  // Hooks methods, or halves of accessors, of all kinds that have them.
  var each = (kinds, keys, half, before, after) => names.forEach(name => kinds.test(name) && keys.split(" ").forEach(key => {
    var owner = proto(name);
    if (half) access(owner, key, half, before, after);
    else if (owner && descriptor(owner, key)) hook(owner, key, before, after);
  }));
  privacy(W.Navigator);
  network(W);

  // Fresh frames of this origin start without a guard. The newest one stands last.
  function adopt() {
    var at = 0;
    while (W[at]) at++;
    if (W[at - 1] != last) {
      last = W[at - 1];
      while (at) enter(W[--at]);
    }
  }

  function enter(frame) {
    try {
      if (frame && !frame[MARK] && frame.document) guard(frame);
    } catch (e) {}
    return frame;
  }

  // A window that goes to another document, or has one, may have lost its guard.
  W.addEventListener("pagehide", () => later(enter, 0, W));
  D.addEventListener("load", event => enter(event.target.contentWindow), true);

  // Nodes and texts on their way in: those of another document were never looked at.
  function incoming(self, nodes) {
    if (self.nodeType == 3) self = self.parentNode;
    nodes.forEach((node, at) => {
      if (!node || !node.nodeType) nodes[at] = inside(self, node);
      else if (node.nodeType == 3) {
        var text = inside(self, node.data);
        if (text != node.data) node.data = text;
      } else if (node.ownerDocument != (self.ownerDocument || self)) scrub(node);
      else {
        if (node.nodeType == 11) incoming(self, [...node.childNodes]);
        if (self.isConnected && node.querySelectorAll) node.querySelectorAll("style,script").forEach(joined);
        joined(node);
      }
    });
  }
  // The text of styles and scripts may come in pieces.
  function joined(node) {
    if (node && /^(style|script)$/.test(node.localName)) scrub(node);
  }
  var arrived = (answer, self, [node]) => {
    adopt();
    // Whole rules join to nothing.
    if (!/}\s*$/.test(node && node.data || node)) [self, self.parentNode, node].forEach(joined);
    return answer;
  };
  each(/^(Node|Element|CharacterData|Document(Type|Fragment)?)$/, "appendChild insertBefore replaceChild append prepend before after replaceWith replaceChildren moveBefore insertAdjacentText appendData insertData replaceData",
    "", incoming, arrived);
  hook(proto("Element"), "insertAdjacentElement", (self, args) => incoming(self, [args[1]]), arrived);
  each(/^Range$/, "insertNode surroundContents", "", (self, [node]) => incoming(self.startContainer, [node]), arrived);
  each(/^Document$/, "importNode adoptNode", "", (self, [node]) => {
    if (node.ownerDocument != self) scrub(node);
  });

  // Attributes, by method, by node and by property.
  hook(proto("Element"), "setAttribute", (self, args) => set(self, (args[0] + "").toLowerCase(), args, 1));
  hook(proto("Element"), "setAttributeNS", (self, args) => set(self, (args[1] + "").toLowerCase(), args, 2));
  each(/^(Element|NamedNodeMap)$/, "setAttributeNode setAttributeNodeNS setNamedItem setNamedItemNS", "", node);
  access(proto("Attr"), "value", "set", (self, args) => set(self.ownerElement, self.name.toLowerCase(), args, 0));
  each(/^Node$/, "nodeValue textContent", "set", (self, args) => {
    if (self.nodeType == 2) return set(self.ownerElement, self.name.toLowerCase(), args, 0);
    args[0] = inside(self.nodeType == 3 ? self.parentNode : self, args[0]);
  }, arrived);
  access(proto("CharacterData"), "data", "set", incoming, arrived);
  each(/^HTML(Script)?Element$/, "innerText text textContent", "set", (self, args) => void (args[0] = inside(self, args[0])));

  function set(element, name, args, at) {
    var may = value(element, name.replace(/^.*:/, ""), args[at]);
    if (may === undefined) return [undefined];
    args[at] = may;
  }

  function node(self, args) {
    var may = value(self.nodeType ? self : null, args[0].localName.toLowerCase(), args[0].value);
    if (may === undefined) return [null];
    if (may !== args[0].value) args[0].value = may;
  }

  each(/Element$/, "src srcset lowsrc attributionSrc srcdoc href imageSrcset rel integrity data codeBase poster background ping content", "set",
    (self, args, native) => set(self, native.name.slice(4).toLowerCase(), args, 0));
  access(proto("SVGAnimatedString"), "baseVal", "set", (self, args) => {
    if (tracker(args[0])) args[0] = asset("e.gif");
  });

  // Markup.
  var fill = (self, nodes) => nodes && (self.replaceChildren(...nodes), [undefined]);
  var roots = /^(Element|ShadowRoot)$/;
  each(roots, "innerHTML", "set", (self, args) => {
    if (/^(style|script)$/.test(self.localName)) args[0] = inside(self, args[0]);
    else return fill(self.content || self, markup(self.host || self, args[0]));
  }, arrived);
  each(roots, "setHTMLUnsafe setHTML", "", (self, args, native) =>
    fill(self.content || self, markup(self.host || self, args[0], native)), arrived);
  access(proto("Element"), "outerHTML", "set", (self, args) => void (args[0] = tidy(self.parentNode, args[0])), arrived);
  hook(proto("Element"), "insertAdjacentHTML", (self, args) => void (args[1] = tidy(/^(beforeb|aftere)/i.test(args[0]) ? self.parentNode : self, args[1])), arrived);
  hook(proto("Range"), "createContextualFragment", (self, args) => {
    var context = self.startContainer;
    args[0] = tidy(context.nodeType == 1 ? context : context.parentNode, args[0]);
  });
  each(/^Document$/, "write writeln", "", (self, args, native) => {
    var text = args.join("") + (native.name == "write" ? "" : "\n"), clean = written(self, text);
    if (clean != text) args.splice(0, args.length, trusted.createHTML(clean));
  }, arrived);
  hook(proto("Document"), "open", self => streams.delete(self) && undefined);
  hook(proto("Document"), "execCommand", (self, args) => {
    if (/^insertimage/i.test(args[0])) args[2] = address(null, "", args[2]);
    if (/^inserthtml/i.test(args[0])) args[2] = tidy(self.body, args[2]);
  }, arrived);

  // Styles. Properties of a style live on each declaration, not on a prototype: hence the stand-in.
  var declarations = proto("CSSStyleDeclaration");
  each(/Element$|^CSS/, "style", "get", null, styled);
  each(/Element$|^CSS/, "style", "set", judge);
  // A value that is no text cannot be cleaned, and goes.
  function judge(self, args) {
    return args.some((given, at) => (args[at] = css(given)) !== given && typeof given == "object") && [undefined];
  }
  function styled(style) {
    var known = styles.get(style), methods = {};
    if (known) return known;
    known = new Proxy(style, {
      get(_, key) {
        var found = style[key];
        return typeof found == "function" ? methods[key] = methods[key] || found.bind(style) : found;
      },
      set(_, key, given) {
        style[key] = css(given);
        return true;
      }
    });
    styles.set(style, known);
    plain.set(known, style);
    return known;
  }
  // What is borrowed from the prototype finds the declaration behind the stand-in.
  function real(self, args, native) {
    return plain.has(self) && [apply(native, plain.get(self), args)];
  }
  for (let key of declarations ? Object.getOwnPropertyNames(declarations) : []) {
    hook(declarations, key, (self, args, native) => {
      if (key == "setProperty") args[1] = css(args[1]);
      return real(self, args, native);
    });
  }
  access(declarations, "cssText", "set", (self, args, native) => judge(self, args) || real(self, args, native));
  each(/^CSS|^StyleP/, "insertRule addRule appendRule replace replaceSync set append", "", judge);
  hook(W, "FontFace", (self, args) => void judge(self, args));
  // Frames of an animation, and other settings.
  function settings(given) {
    return given && given.map ? given.map(settings)
      : given + "" == "[object Object]" ? Object.fromEntries(Object.entries(given).map(([key, one]) => [key, settings(one)])) : css(given);
  }
  var animated = at => (self, args) => void (args[at] = settings(args[at]));
  hook(proto("Element"), "animate", animated(0));
  hook(proto("KeyframeEffect"), "setKeyframes", animated(0));
  hook(W, "KeyframeEffect", animated(1));
  hook(W.CSS, "registerProperty", animated(0));
  hook(W, "Audio", (self, args) => {
    if (args.length && tracker(args[0])) args[0] = asset("e.gif");
  });

  // Frames, windows, documents in blobs.
  each(/Element$/, "contentWindow", "get", null, enter);
  each(/Element$/, "contentDocument", "get", null, document => {
    if (document) enter(document.defaultView);
    return document;
  });
  // Whether a name is a frame's: what script leads there is judged. A window of its own is the visitor's step.
  function framed(name, window) {
    if (!name || name == "_self") return W != W.top;
    try {
      if (window != window.top && window.name == name || [...window.document.getElementsByName(name)].some(found => found.contentWindow)) return true;
    } catch (e) {}
    for (var frame, at = 0; frame = window[at++];) if (framed(name, frame)) return true;
  }
  // A link, a form, or a button of one.
  function lead(element) {
    var form = element.form, read = (one, name) => one && apply(getAttribute, one, [name]);
    if (framed(read(element, "formtarget") || read(element, "target") || read(form, "target") || read(D.querySelector("base[target]"), "target"), W.top)) {
      [element, form].forEach(one => ["href", "xlink:href", "action", "formaction"].forEach(name => {
        var given = read(one, name), may = given && address(null, "iframe", given);
        if (may != given) apply(setAttribute, one, [name, may]);
      }));
    }
  }
  function press(element) {
    lead(apply(closest, element, ["a,area,button:not([type=button]),[type=submit],[type=image]"]));
  }
  hook(W, "open", (self, args) => {
    if (framed(args[1] || "_blank", W.top) || /script:/i.test(args[0])) args[0] = address(null, "iframe", args[0]);
  }, enter);
  hook(proto("HTMLElement"), "click", press);
  hook(proto("EventTarget"), "dispatchEvent", (self, [event]) => event.type == "click" && press(self));
  hook(proto("HTMLFormElement"), "submit", lead);
  hook(proto("HTMLFormElement"), "requestSubmit", (self, [by]) => lead(by || self));
  // A frame's own window hears where it is led, once it is past its first empty document.
  if (W != W.top && W.navigation) W.navigation.addEventListener("navigate", event => {
    if (event.userInitiated || !event.cancelable || !tracker(event.destination.url)) return;
    event.preventDefault();
    later(() => W.location.replace("about:blank"));
  });
  hook(W, "Blob", null, (blob, self, [parts]) => {
    if (parts.every(part => typeof part == "string")) pages.set(blob, parts.join(""));
    return blob;
  });
  hook(W.URL, "createObjectURL", (self, args) => {
    var [blob] = args, type = blob.type;
    if (!KINDS.test(type)) return;
    var text = pages.get(blob) || read(blob), clean = within(type, text);
    if (clean != text) args[0] = new Blob(text ? [clean] : [clean, blob], { type });
  });

  // Connections to be.
  var servers = (self, args) => {
    var settings = args[0];
    if (!settings || !settings.iceServers) return;
    var stays = url => !(url = /^(?:stun|turn)s?:([^:?]+)/i.exec(url)) || !tracker("wss://" + url[1], 1);
    args[0] = Object.assign({}, settings, {
      iceServers: [...settings.iceServers].map(server => Object.assign({}, server, { urls: [].concat(server.urls || server.url || []).filter(stays) }))
        .filter(server => server.urls.length)
    });
  };
  hook(W, "RTCPeerConnection", servers);
  hook(W, "webkitRTCPeerConnection", servers);
  hook(proto("RTCPeerConnection"), "setConfiguration", servers);

  // Cookies and storage. The last age that a cookie is given counts: it ends at once.
  access(proto("Document"), "cookie", "set", (self, args) => {
    if (goes("=" + (args[0] += "").split("=")[0].trim())) args[0] += ";max-age=0";
  });
  hook(proto("Storage"), "setItem", (self, [key]) => goes("$" + key) && [undefined]);

  // The parser's own nodes: frames to enter, and what slipped through is at least counted.
  new W.MutationObserver(records => {
    adopt();
    for (var record of records) for (var added of record.addedNodes) {
      if (/^(script|img|iframe|link|source|video|audio|object|embed|input)$/.test(added.localName) && scrub(added, 1)) slipped++;
    }
  }).observe(D, { childList: true, subtree: true });
  adopt();
}

var slipped = 0;

// What was there before the visitor opted out.
function sweep() {
  ["localStorage", "sessionStorage"].forEach(kind => {
    try {
      Object.keys(W[kind]).forEach(key => goes("$" + key) && W[kind].removeItem(key));
    } catch (e) {}
  });
}

function expire() {
  var labels = own.split(".");
  D.cookie.split(";").forEach(pair => {
    var name = pair.split("=")[0].trim();
    if (!goes("=" + name)) return;
    var end = name + "=; Max-Age=0; Path=/";
    D.cookie = end;
    for (var at = 0; at < labels.length - 1; at++) D.cookie = end + "; Domain=" + labels.slice(at).join(".");
  });
}

if (!W[MARK]) {
  guard(W);
  [sweep, expire, signals.bind(null, W, SIGNAL), stubs.bind(null, W)].forEach(part => {
    try {
      part();
    } catch (e) {}
  });
  W.addEventListener("pagehide", () => {
    sweep();
    var hosts = Object.keys(blocked).slice(0, 50).map(host => [host, blocked[host]]);
    if (hosts[0]) W.navigator.sendBeacon(REPORT.replace(/^(?=\/)/, origin), JSON.stringify({ v: 1, blocked: Object.fromEntries(hosts), slipped }));
    blocked = Object.create(null);
  });
}
