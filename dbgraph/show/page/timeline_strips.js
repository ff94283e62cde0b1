"use strict";
/* Blocks too narrow for boxes of their own: pixels of a picture, a strip for each part of a row. It
   costs the same however many blocks there are.

   dbg.timeline_strips(parts) returns {begin(width, rows), put(row, part, left, right, ink), end(),
   draw(ctx, row, part, y, height)}; an ink is made by dbg.ink(colour, opacity). */

/** A colour of dbg.colour as a pixel. */
dbg.ink = (colour, opacity) => {
  const [red, green, blue] = colour.match(/[\d.]+/g).map(Number);
  return new Uint32Array(Uint8Array.of(red, green, blue, Math.round(255 * opacity)).buffer)[0];
};

dbg.timeline_strips = (parts) => {
  const sheet = dbg.el("canvas");
  const pen = sheet.getContext("2d");
  let [image, pixels, used] = [null, null, null];

  return {
    begin(width, rows) {
      Object.assign(sheet, { width: Math.ceil(width), height: Math.max(1, rows * parts) });
      image = pen.createImageData(sheet.width, sheet.height);
      pixels = new Uint32Array(image.data.buffer);
      used = new Uint8Array(sheet.height);
    },
    put(row, part, left, right, ink) {
      const strip = row * parts + part;
      const from = strip * sheet.width;
      used[strip] = 1;
      pixels.fill(ink, from + Math.max(0, Math.round(left)), from + Math.min(sheet.width, Math.round(right)));
    },
    end: () => pen.putImageData(image, 0, 0),
    draw(ctx, row, part, y, height) {
      const strip = row * parts + part;
      if (used[strip]) ctx.drawImage(sheet, 0, strip, sheet.width, 1, 0, y, sheet.width, height);
    },
  };
};
