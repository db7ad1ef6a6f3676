"""What a browser is asked of a page: what is too wide, clipped or too faint."""

from __future__ import annotations

WIDTHS = (360, 420, 1200)
PAPER = 703
"""A4 without margins of 12 mm, in pixels."""

OUTSIDE = """
  const width = document.documentElement.clientWidth;
  return [...document.body.querySelectorAll('*')]
    .filter(e => !e.closest('.wide, pre, svg, details:not([open])') && e.getBoundingClientRect().right > width + 1)
    .map(e => e.outerHTML.slice(0, 80))
"""
CLIPPED = """
  return [...document.body.querySelectorAll('*')]
    .filter(e => !e.closest('svg, details:not([open]) > :not(summary)') && getComputedStyle(e).display !== 'inline')
    .filter(e => e.scrollWidth > e.clientWidth + 1 || e.getBoundingClientRect().right > innerWidth + 1)
    .map(e => `${e.tagName} ${e.className} ${e.scrollWidth} ${e.clientWidth} ${e.textContent.slice(0, 40)}`)
"""
FAINT = """
  const canvas = Object.assign(document.createElement('canvas'), {width: 1, height: 1});
  const context = canvas.getContext('2d', {willReadFrequently: true});
  const layered = (...colors) => {  // whatever form a colour is written in
    context.clearRect(0, 0, 1, 1);
    for (const color of colors) { context.fillStyle = color; context.fillRect(0, 0, 1, 1); }
    return [...context.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const luminance = rgb => {
    const [r, g, b] = rgb.map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let seen = 0;
  while (walker.nextNode()) {
    const node = walker.currentNode, parent = node.parentElement;
    if (!node.textContent.trim() || parent.closest('title, style') || !parent.checkVisibility()) continue;
    seen += 1;
    const grounds = [];
    for (let e = parent; e; e = e.parentElement) grounds.unshift(getComputedStyle(e).backgroundColor);
    const style = getComputedStyle(parent);
    const ink = parent.closest('svg') ? style.fill : style.color;
    const [one, other] = [layered(...grounds, ink), layered(...grounds)].map(luminance);
    const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    if (contrast < 4.5) found.push(`${contrast.toFixed(2)} ${parent.tagName} ${parent.className.baseVal ?? parent.className} ${node.textContent.slice(0, 30)}`);
  }
  return [seen, found]
"""
