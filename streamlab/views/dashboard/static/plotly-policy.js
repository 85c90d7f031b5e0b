// The page's policy (Content-Security-Policy: style-src 'self') allows no style that stands in markup. plotly.js sets a few
// as attributes: they are set as properties instead, which the policy allows. And it brings a sheet for maps, which this
// page does not draw: that one is left out.
const setAttribute = Element.prototype.setAttribute;
Element.prototype.setAttribute = function (name, value) {
  if (name === "style") this.style.cssText = value;
  else setAttribute.call(this, name, value);
};
document.head.appendChild = function (node) {
  return node instanceof HTMLStyleElement ? node : Node.prototype.appendChild.call(this, node);
};
