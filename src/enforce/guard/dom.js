// What a document can do. `guard` is run on every window of this origin that has no guard of its own.
// This element again. Its nonce is hidden from whoever reads markup.
var AGAIN = E ? E.outerHTML.replace(/ nonce=""/, ` nonce="${E.nonce}"`) : "";
var inert = D.implementation.createHTMLDocument(""), shelf = inert.createElement("template");
// The stand-in of each style.
var styles = new WeakMap();
// A form's fields stand before its own properties, and so do a document's elements.
var { getAttribute, setAttribute, removeAttribute, setHTML, setHTMLUnsafe } = W.Element.prototype, parse = W.DOMParser.prototype.parseFromString;
var attributes = descriptor(W.Element.prototype, "attributes").get, finders = [shelf, inert, shelf.content].map(node => node.querySelectorAll);
// What an attribute holds: an address, or text with addresses.
var rules = {};
forEach(["src data poster background", "srcset imagesrcset ping attributionsrc to from by values style fill stroke filter mask clip-path cursor marker-start marker-mid marker-end", "action formaction"], (names, at) => forEach(split(names, " "), name => rules[name] = at + 1));
// Of elements, those that may name an address: of the rest of a page's markup nobody asks more.
var RISKY = `template,style,script,iframe,meta,[*|href]:not(a,area),[${join(Object.keys(rules), "],[")}]`;
var TEXTS = /^(style|script|xml-stylesheet)$/, HINTS = /preconnect|dns-prefetch/i, SCRIPT = /^javascript:/i, setMarkup = descriptor(W.Element.prototype, "innerHTML").set;

// The value an attribute may have: the same one, another one, or undefined for none.
function value(element, name, given) {
  name = replace(lower(name), /^.*:/, "");
  var tag = kind(element), links = tag == "link", rule = rules[name];
  if (name == "href") {
    if (tag == "base") return tracker(given, 1) ? undefined : given;
    if (links && test(HINTS, element.rel) && tracker(given, 1)) return standIn(tag);
    // A link leads where it likes, but what script stands in it may import.
    rule = test(/^(a|area)$/, tag) ? 3 : 1;
  }
  if (rule == 1) return address(element, tag, given);
  if (rule == 2) return css(given);
  if (rule == 3) return coded(given);
  if (name == "rel" && links && test(HINTS, given) && tracker(element.href, 1)) element.removeAttribute("href");
  if (name == "srcdoc") return trusted.createHTML(page(given));
  if (name == "content" && tag == "meta") {
    var refresh = exec(/^\s*[\d.]+[\s;,]*(?:url\s*=\s*)?["']?([^"']+)/i, given);
    return refresh && tracker(refresh[1]) ? undefined : given;
  }
  if (name == "integrity" && notes.has(element)) return;
  return test(/^on/, name) ? imports(given, 1) : given;
}

function address(element, tag, given) {
  var text = bare(given), found;
  if (found = unpacked(text)) {
    var [type, body, rest] = found, clean = within(type, body);
    if (clean != body) return trusted.createScriptURL(`data:${type};charset=utf-8,${encodeURIComponent(clean)}${rest}`);
  }
  if (test(SCRIPT, text)) return test(/^(i?frame|object|embed)$/, tag) ? scripted(coded(text)) : given;
  if (!tracker(text)) return given;
  if (element) {
    notes.set(element, 1);
    apply(removeAttribute, element, ["integrity"]);
  }
  return standIn(tag);
}

// A frame's document that a `javascript:` address makes: cleaned, where the page's policy lets us see it.
function scripted(given) {
  var code = unescaped(replace(given, SCRIPT, "")), begin = `parent[Symbol.for("optgate")].page((0,eval)(`;
  if (!find(code, begin)) return given;
  // An attribute's value may stand without quotes.
  var text = replace(code, /=/g, " ");
  if (css(text) != text) return "about:blank";
  try {
    (0, W.eval)("0");
  } catch (e) {
    return given;
  }
  return "javascript:" + encodeURIComponent(begin + quoted(code) + "))");
}

// An address that may be script, with what it imports changed.
function coded(given) {
  var text = bare(given), code = unescaped(replace(text, SCRIPT, "")), clean = imports(code, 1);
  return test(SCRIPT, text) && clean != code ? "javascript:" + encodeURIComponent(clean) : given;
}

// A document, style or script that stands in an address or a blob.
function within(type, text) {
  return test(/\/html/i, type) ? page(text) : test(/script|^$/i, type) ? imports(text, 1) : test(/xml/i, type) && test(/<!entity|[<:]script|\son\w+\s*=/i, text) ? "" : css(text);
}

// What stands in a blob; nothing where the page's policy forbids to ask.
function read(blob) {
  var request = new W.XMLHttpRequest(), url = createURL(blob);
  try {
    request.open("GET", url, false);
    request.send();
  } catch (e) {}
  nativeURL.revokeObjectURL(url);
  return request.responseText;
}

// What an address made for a blob shows: nothing where it cannot be read. One without a type may be script, and is not
// read for that.
function shown(args) {
  var [blob] = args, type = blob.type;
  if (type && !test(KINDS, type)) return;
  var text = notes.get(blob) || type && read(blob), clean = within(type, text);
  if (clean != text || type && !text) args[0] = new Blob([clean], { type });
}

// A whole document in a text: cleaned, with this guard before everything else.
function page(given) {
  var text = given + "";
  if (find(text, GUARDED) >= 0) return text;
  forEach([text => text, shut], way => {
    var from = way(text), parsed = apply(parse, new W.DOMParser(), [trusted.createHTML(from), "text/html"]);
    if (scrub(parsed, 0, from)) text = (parsed.doctype ? "<!doctype html>" : "") + parsed.documentElement.outerHTML;
  });
  return replace(text, /^((?:\s|<!-\x2d[^]*?-->)*<!doctype[^>]*>)?/i, start => start + AGAIN);
}

// Neutralises what stands below a node that is not shown yet. Whether anything had to be. `ran`: its scripts
// have run, so that nothing is asked of them any more. `text`: what it was read from.
function scrub(node, ran, text) {
  var changed = false;
  forEach([node, ...risky(node, text)], element => {
    forEach(element.attributes ? [...apply(attributes, element, [])] : [], attribute => {
      var given = attribute.value, may = value(element, attribute.name, given);
      if (may + "" != given) {
        changed = true;
        if (may === undefined) element.removeAttributeNode(attribute);
        else apply(setAttribute, element, [attribute.name, may]);
      }
    });
    if (test(TEXTS, kind(element))) {
      var given = element.textContent, clean = inside(element, given, ran);
      if (clean != given) {
        element.textContent = clean;
        changed = true;
      }
    }
    forEach([element.content, element.shadowRoot], inner => {
      if (inner?.nodeType && scrub(inner, 0, text)) changed = true;
    });
  });
  return changed;
}

// What has to be looked at below a node: everything, where a handler may import or a shadow root may have come.
function risky(node, text) {
  for (var find of finders) try {
    return apply(find, node, [test(/import|&#|shadowroot/i, text) ? "*" : RISKY]);
  } catch (e) {}
  return [];
}

// An element's name, or an instruction's.
function kind(node) {
  return node ? node.localName || node.target : "";
}

// The text that an element of styles, rules or script may have.
function inside(element, given, ran) {
  var tag = kind(element), type = element?.type;
  return !test(TEXTS, tag) ? given
    : tag != "script" ? css(given)
    // Links lead where they like, and nobody has clicked.
    : test(/rules/i, type) && test(/where|"document/, plainText(given)) ? ""
    : test(/^\s*(importmap|spec|webb)/i, type) ? css(given, "mjs") : imports(given, !ran && test(/^$|script|module/i, type || ""));
}

// Script text: nobody can patch `import`, but what it names can be changed, and what it is given be judged. Both are
// found by their words, so that no reading of what stands before them can hide one: a text about an import
// counts too, and is as good a text as before. Only what has a body behind it is a method of that name.
var GAP = /(?:\s|\/\*(?:[^*]|\*(?!\/))*\*\/|(?:\/\/|<!-\x2d|-->).*$)*/.source, IMPORT = /import(?<!(?:[\w$#]|(?<!\.\.)\.\s*)import)/.source + GAP;
var IMPORTED = new RegExp(`((?:${IMPORT}\\(?|\\bfrom)${GAP})(["'\`])([^]*?)\\2`, "gm");
var CALLED = new RegExp(`optgateImport\\((\\S+)=>import[\\w.]*\\1|${IMPORT}(\\.\\w+)?${GAP}\\((?!\\?|[^()]*\\)[ \\t]*\\{)`, "gm");
function imports(given, runs) {
  var text = given + "", it = test(/with|assert/, text) ? "(o,p)" : "(o)";
  var clean = replace(text, IMPORTED, (all, before, quote, name) => tracker(plainText(name)) ? before + quoted(assets + "mjs") : all);
  if (runs) clean = replace(clean, CALLED, (all, ours, phase) => ours ? all : `optgateImport(${it}=>import${phase || ""}${it},`);
  return clean == text ? given : trusted.createScript(clean);
}

// Markup that would leak, as nodes that do not; nothing when it may go in as it is.
function markup(context, given, set, settings) {
  if (!test(/[:\\]|\/\s*\/|&(?!amp;|nbsp;|lt;|gt;|quot;)|srcdoc|import/i, given)) return;
  for (var text of new Set([given + "", shut(given)])) {
    var box = inert.importNode(context?.nodeType == 1 ? context : shelf, false);
    apply(set || setMarkup, box, [open(text), settings]);
    if (scrub(box = inner(box), 0, text)) return box.childNodes;
  }
}

// In a `noscript`, who runs no scripts reads markup, as this parser does, and who runs them a text. Both are judged: a
// `noembed` holds a text for everybody.
function shut(text) {
  return replace(text, /(<\/?)noscript/gi, "$1noembed");
}

// Nobody can look into a closed shadow root.
function open(text) {
  return trusted.createHTML(replace(text + "", /(shadowrootmode\s*=\s*["']?)[^\s"'>]+/gi, "$1open"));
}

// Where the nodes of an element's markup stand.
function inner(element) {
  var { content } = element;
  return content?.nodeType == 11 ? content : element;
}

// The same as markup, which must stay harmless when it is read again.
function tidy(context, text) {
  for (var nodes, left = 3; left-- && (nodes = markup(context, text));) {
    var box = inert.createElement(context?.localName == "style" ? "style" : "p");
    box.append(...nodes);
    text = trusted.createHTML(box.innerHTML);
  }
  return text;
}

// `document.write`: markup in pieces, so tag by tag. What is unfinished waits for its rest.
function written(document, text) {
  var stream = notes.get(document), out = "", at = 0, found;
  var piece = /[^<]+|<(?!!--|\/?[a-z]|(?:!-?|\/)?$)|<!(?=--)[^]*?--!?>|<\/?[a-z][^>=]*(?:=\s*(?:"[^"]*"|'[^']*'|[^"'\s>][^\s>]*(?=[\s>]|$)|(?=>))[^>=]*)*>/iy;
  if (!stream) notes.set(document, stream = { held: "" });
  text = stream.held + text;
  stream.held = "";
  while (at < text.length) {
    var { raw, drawn } = stream, next = raw ? new RegExp(`[^]*?(?=</${raw.localName}[\\s/>])`, "iy") : piece;
    next.lastIndex = at;
    found = exec(next, text);
    if (!found) {
      stream.held = cut(text, at);
      break;
    }
    at += found[0].length;
    stream.raw = 0;
    if (raw) {
      // A script in a script's comment would hide where this one ends. In a drawing it is markup.
      var content = test(/<!-\x2d[^]*<script(?![^]*-->)/i, found[0]) ? "" : inside(raw, found[0]);
      apply(setMarkup, shelf, [trusted.createHTML(drawn ? `<svg><${raw.localName}>${content}` : "")]);
      out += scrub(shelf.content, 0, content) ? "" : content;
    } else if (raw = exec(/^<([a-z][^\s\/>]*)/i, found[0])) {
      out += startTag(found[0]);
      if (test(/^(svg|math)$/i, raw[1])) stream.drawn = 1;
      if (test(/^(script|style|textarea|title|xmp|iframe|noembed|noframes|noscript)$/i, raw[1])) stream.raw = shelf.content.firstElementChild;
    } else out += found[0];
  }
  return out;
}

// What stands nowhere but in a document is judged under a name with a letter more.
function startTag(tag) {
  var more = test(/^<(html|body|frame)/i, tag) ? "<i" : "<";
  apply(setMarkup, shelf, [trusted.createHTML(replace(tag, "<", more))]);
  var element = shelf.content.firstElementChild;
  return element && scrub(element) ? replace(replace(element.outerHTML, /<\/[^>]*>$/, ""), more, "<") : tag;
}

// A frame's window outlives its first, empty document: it keeps what was replaced, and the next one is watched anew.
function guard(W) {
  if (W[MARK]) return W[MARK].watch();
  W[MARK] = { page: html => typeof html == "string" ? page(html) : html, watch };
  var watched, last, hook = hooks(W), names = Object.getOwnPropertyNames(W);
  // Hooks methods, or halves of accessors, of all kinds that have them.
  var each = (kinds, keys, before, after, half) => forEach(names, name => test(kinds, name) && forEach(split(keys, " "), key => {
    var owner = W[name]?.prototype;
    if (owner && descriptor(owner, key)) patch(owner, key, before, after, half);
  }));
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
      if (frame.document) guard(frame);
    } catch (e) {}
    return frame;
  }

  // A window that goes to another document, or has one, may have lost its guard.
  W.addEventListener("pagehide", () => later(enter, 0, W));

  // The parser's own nodes: frames to enter, and what slipped through is at least counted.
  function watch() {
    adopt();
    if (watched == (watched = W.document)) return;
    watched.addEventListener("load", event => enter(event.target.contentWindow), true);
    new W.MutationObserver(records => {
      adopt();
      for (var record of records) for (var added of record.addedNodes) {
        if (test(/^(script|img|iframe|link)$/, added.localName) && scrub(added, 1)) slipped++;
      }
    }).observe(watched, { childList: true, subtree: true });
  }

  // Nodes and texts on their way in: those of another document were never looked at.
  function incoming(self, nodes) {
    if (self.nodeType == 3) self = self.parentNode;
    // What it ends must be nothing either.
    var begun = kind(self) == "style" && replace(self.textContent, /^[^]*}\s*$/, "");
    var piece = text => begun && css(begun + text) != begun + text ? "" : inside(self, text);
    forEach(nodes, (node, at) => {
      if (!node?.nodeType) nodes[at] = piece(node);
      else if (node.nodeType == 3) {
        var text = piece(node.data);
        if (text != node.data) node.data = text;
      } else if (node.nodeType == 11) incoming(self, [...node.childNodes]);
      else if (node.parentNode != self && (self.isConnected || node.ownerDocument != (self.ownerDocument || self))) scrub(node);
    });
  }
  // The text of styles and scripts may come in pieces.
  var arrived = (answer, self, [node]) => {
    adopt();
    // Whole rules join to nothing.
    if (!test(/}\s*$/, node?.data || node)) forEach([self, self.parentNode, node], node => test(TEXTS, kind(node)) && scrub(node));
    return answer;
  };
  each(/^(Node|Element|CharacterData|Document(Type|Fragment)?)$/, "appendChild insertBefore replaceChild append prepend before after replaceWith replaceChildren moveBefore insertAdjacentElement insertAdjacentText appendData insertData replaceData deleteData",
    incoming, arrived);
  hook("ProcessingInstruction.setAttribute SVGAnimatedString.baseVal", judge);
  hook("Range.insertNode Range.surroundContents", (self, [node]) => incoming(self.startContainer, [node]), arrived);
  var parsed = (answer, self, [text]) => (scrub(answer, 1, text + ""), answer);
  hook("DOMParser.parseFromString", null, parsed);
  patch(W.Document, "parseHTMLUnsafe", (self, args) => void (args[0] = open(args[0])), parsed);
  // What it makes for a document that is shown, it makes for one that is not.
  hook("XSLTProcessor.transformToFragment", (self, args) => void (args[1] = inert));
  hook("Document.importNode Document.adoptNode", (self, [node]) => {
    if (node.ownerDocument != self) scrub(node);
  });

  // Attributes, by method, by node and by property.
  hook("Element.setAttribute", (self, args) => set(self, args[0], args, 1));
  hook("Element.setAttributeNS", (self, args) => set(self, args[1], args, 2));
  each(/^(Element|NamedNodeMap)$/, "setAttributeNode setAttributeNodeNS setNamedItem setNamedItemNS", node);
  each(/^(Node|Attr)$/, "value nodeValue textContent", (self, args) => {
    if (self.nodeType == 2) return set(self.ownerElement, self.name, args, 0);
    args[0] = inside(self.nodeType == 3 ? self.parentNode : self, args[0]);
  }, arrived);
  hook("CharacterData.data", incoming, arrived);
  each(/^HTML(Script)?Element$/, "innerText outerText text textContent", (self, args) => void (args[0] = inside(self.parentNode, inside(self, args[0]))));

  function set(element, name, args, at) {
    var may = value(element, name, args[at]);
    if (may !== args[at] && (args[at] = may) === undefined) return [];
  }

  function node(self, args) {
    var may = value(self.nodeType ? self : null, args[0].name, args[0].value);
    if (may === undefined) return [null];
    if (may !== args[0].value) args[0].value = may;
  }

  each(/Element$/, "src srcset attributionSrc srcdoc href imageSrcset rel integrity data poster background ping content action formAction",
    (self, args, native) => set(self, cut(native.name, 4), args, 0));
  // The words of a link's `rel`, as a list.
  hook("HTMLLinkElement.relList", null, (list, self) => notes.set(list, self) && list, "get");
  each(/^DOMTok/, "add toggle replace value", (self, args) => void value(notes.get(self), "rel", join(args, " ")));

  // Markup.
  var fill = (self, nodes) => nodes && (inner(self).replaceChildren(...nodes), []);
  var roots = /^(Element|ShadowRoot)$/;
  each(roots, "innerHTML", (self, args) => {
    if (test(TEXTS, self.localName)) args[0] = inside(self, args[0]);
    else return fill(self, markup(self.host || self, args[0]));
  }, arrived);
  each(roots, "setHTMLUnsafe setHTML", (self, args, native) =>
    fill(self, markup(self.host || self, args[0], native.name == "setHTML" ? setHTML : setHTMLUnsafe, args[1])), arrived);
  hook("Element.outerHTML", (self, args) => void (args[0] = tidy(self.parentNode, args[0])), arrived);
  hook("Element.insertAdjacentHTML", (self, args) => void (args[1] = tidy(test(/^(beforeb|aftere)/i, args[0]) ? self.parentNode : self, args[1])), arrived);
  hook("Range.createContextualFragment", (self, args) => void (args[0] = tidy(self.startContainer, args[0])));
  hook("Document.write Document.writeln", (self, args, native) => {
    var text = join(args, "") + (native.name == "write" ? "" : "\n"), clean = written(self, text);
    if (clean != text) {
      args.length = 0;
      args[0] = trusted.createHTML(clean);
    }
  }, arrived);
  hook("Document.execCommand", (self, args) => {
    if (test(/image/i, args[0])) args[2] = address(null, "", args[2]);
    if (test(/html/i, args[0])) args[2] = tidy(self.body, args[2]);
  }, arrived);

  // Styles. Properties of a style live on each declaration, not on a prototype: hence the stand-in.
  var declarations = W.CSSStyleDeclaration.prototype;
  each(/Element$|^CSS/, "style", judge);
  each(/Element$|^CSS/, "style", null, styled, "get");
  function styled(style) {
    var known = styles.get(style);
    if (!known) {
      styles.set(style, known = new Proxy(style, {
        get: (_, key) => style[key],
        set: (_, key, given) => [style[key] = css(given)],
        defineProperty: (_, key, { value }) => [known[key] = value]
      }));
      notes.set(known, style);
    }
    return known;
  }
  // What is borrowed from the prototype finds the declaration behind the stand-in.
  forEach(Reflect.ownKeys(declarations), key => patch(declarations, key, (self, args, native) =>
    judge(self, args) || notes.has(self) && [apply(native, notes.get(self), args)]));
  each(/^CSS|^StyleP/, "insertRule addRule appendRule replace replaceSync set append", judge);
  hook("Element.animate KeyframeEffect.setKeyframes CSSStyleSheet PaymentRequest MediaMetadata MediaMetadata.artwork", cleans(0));
  hook("KeyframeEffect Notification", cleans(1));
  patch(W.CSS, "registerProperty", cleans(0));

  hook("Function setTimeout setInterval", scripts);

  // Frames, windows, documents in blobs.
  each(/Element$/, "contentWindow contentDocument", null, found => (enter(found.defaultView || found), found), "get");
  // Whether a name is a frame's: what script leads there is judged. A window of its own is the visitor's step.
  function framed(name, window) {
    if (!name || name == "_self") return W != W.top;
    try {
      if (window != window.top && window.name == name || some(window.document.getElementsByName(name), found => found.contentWindow)) return true;
    } catch (e) {}
    for (var frame, at = 0; frame = window[at++];) if (framed(name, frame)) return true;
  }
  // A link, a form, or a button of one.
  function lead(element) {
    var form = element.form, read = (one, name) => one && apply(getAttribute, one, [name]);
    if (framed(read(element, "formtarget") || read(element, "target") || read(form, "target") || read(W.document.querySelector("base[target]"), "target"), W.top)) {
      forEach([element, form], one => forEach(["href", "xlink:href", "action", "formaction"], name => {
        var given = read(one, name), may = given && address(null, "iframe", given);
        if (may != given) apply(setAttribute, one, [name, may]);
      }));
    }
  }
  function press(element) {
    element = element?.closest?.("a,area,label,button,[type=submit],[type=image]");
    if (element) lead(element.control || element);
  }
  // A document's own `open` is the window's when it is given three.
  hook("open Document.open", (self, args) => {
    notes.delete(self);
    if (framed(args[1] || "_blank", W.top) || test(/script:/i, args[0])) args[0] = address(null, "iframe", args[0]);
  }, enter);
  hook("DocumentPictureInPicture.requestWindow", null, answer => answer.then(enter));
  hook("Navigation.navigate", (self, args) => {
    if (self != W.navigation || W != W.top) args[0] = address(null, "iframe", args[0]);
  });
  hook("HTMLElement.click", press);
  hook("EventTarget.dispatchEvent", (self, [event]) => event.type == "click" && press(self));
  hook("HTMLFormElement.submit HTMLFormElement.requestSubmit", (self, [by]) => lead(by || self));
  // A frame's own window hears where it is led, once it is past its first empty document.
  if (W != W.top && W.navigation) W.navigation.addEventListener("navigate", event => {
    if (!event.userInitiated && event.cancelable && tracker(event.destination.url)) {
      event.preventDefault();
      later(() => W.location.replace("about:blank"));
    }
  });
  hook("Blob", null, (blob, self, [parts]) => (some(parts, part => typeof part != "string") || notes.set(blob, join(parts, "")), blob));

  // Connections to be: servers, and peers.
  hook("RTCPeerConnection webkitRTCPeerConnection RTCPeerConnection.setConfiguration", (self, args) => {
    var settings = args[0] || args;
    if (settings.iceServers) args[0] = { ...settings, iceServers: filter([...settings.iceServers], server => !met(server.urls || server.url)) };
  });
  hook("RTCPeerConnection.addIceCandidate", (self, args) => {
    if (met(args[0]?.candidate)) args[0] = null;
  });
  hook("RTCPeerConnection.setRemoteDescription", (self, args) => {
    var { type, sdp } = args[0] || {};
    if (sdp) args[0] = { type, sdp: replace(sdp, /a=candidate[^\n]*\n/g, line => met(line) ? "" : line) };
  });

  // Cookies and storage. The last age that a cookie is given counts: it ends at once.
  hook("Document.cookie", (self, args) => {
    if (goes("=" + exec(/^\s*([^=]*?)\s*(=|$)/, args[0] += "")[1])) args[0] += ";max-age=0";
  });
  hook("Storage.setItem", (self, [key]) => goes("$" + key) && []);
  watch();
}

// Script in a text.
function scripts(self, args) {
  if (typeof args[0] == "string") forEach(args, (given, at) => void (args[at] = imports(given, 1)));
}

var slipped = 0;

// Its constructor has no name.
patch(getPrototypeOf(async () => {}), "constructor", scripts);

guard(W);
