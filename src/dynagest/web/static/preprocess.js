// From a picture to what the network takes: the centre square at the network's size, normalised.
// The same picture as src/dynagest/clips/transforms.py within 1 of 255; tests/test_web_scripts.py compares them.

// OpenCV interpolates in whole numbers, which comes out 0.12 lower in the mean than rounding would.
const HALF = 0.38;

const PROBE = [40, 90, 160, 255]; // RGBA, unlike the placeholder of any known browser

/**
 * Throws if the browser silently gives pages noise in place of a picture's pixels, as Firefox does with
 * privacy.resistFingerprinting. The network, and clips that are recorded, would get that noise.
 */
export function checkPixels() {
  const context = new OffscreenCanvas(8, 8).getContext("2d");
  context.fillStyle = `rgb(${PROBE.slice(0, 3).join(" ")})`;
  context.fillRect(0, 0, 8, 8);
  const { data } = context.getImageData(0, 0, 8, 8);
  if (data.every((value, i) => Math.abs(value - PROBE[i % 4]) <= 2)) return; // milder protection changes the last bit
  throw new Error(
    "This browser gives pages noise in place of pictures, against fingerprinting. " +
      "Exempt this page (Firefox: about:config, privacy.resistFingerprinting.exemptedDomains), then load it again.",
  );
}

/** The square in the middle of a picture, in whole pixels. */
export function centreSquare(width, height) {
  const side = Math.min(width, height);
  return { x: Math.floor((width - side) / 2), y: Math.floor((height - side) / 2), side };
}

/** Shrinks squares of one size to another. Bilinear to no less than half, whole pixels averaged beyond that. */
export class Shrinker {
  /** @param {number} side of the pictures given  @param {number} size of the pictures returned */
  constructor(side, size) {
    this.side = side;
    this.size = size;
    this.factor = Math.max(1, Math.ceil(side / size / 2));
    const fine = size * this.factor;
    this.at = new Int32Array(fine); // the pixel before each point, and how far the point is on the way to the next
    this.part = new Float32Array(fine);
    for (let i = 0; i < fine; i++) {
      const where = Math.min(Math.max(((i + 0.5) * side) / fine - 0.5, 0), side - 1);
      this.at[i] = Math.min(Math.floor(where), Math.max(side - 2, 0));
      this.part[i] = where - this.at[i];
    }
    this.sums = new Float32Array(size * size * 3);
  }

  /** RGBA bytes (side, side, 4) -> RGB bytes (size, size, 3). */
  shrink(rgba) {
    const { side, size, factor, at, part, sums } = this;
    const fine = size * factor;
    const right = side > 1 ? 4 : 0;
    const down = side > 1 ? 4 * side : 0;
    sums.fill(0);
    for (let y = 0; y < fine; y++) {
      const row = at[y] * side * 4;
      const v = part[y];
      const outRow = Math.floor(y / factor) * size * 3;
      for (let x = 0; x < fine; x++) {
        const i = row + at[x] * 4;
        const u = part[x];
        const out = outRow + Math.floor(x / factor) * 3;
        for (let c = 0; c < 3; c++) {
          const j = i + c;
          const top = rgba[j] + (rgba[j + right] - rgba[j]) * u;
          const bottom = rgba[j + down] + (rgba[j + down + right] - rgba[j + down]) * u;
          sums[out + c] += Math.floor(top + (bottom - top) * v + HALF);
        }
      }
    }
    const rgb = new Uint8Array(sums.length);
    const area = factor * factor;
    for (let i = 0; i < rgb.length; i++) rgb[i] = Math.floor(sums[i] / area + 0.5);
    return rgb;
  }
}

/** RGB bytes (s, s, 3) -> float32 (3, s, s), normalised as the card says. */
export function normalise(rgb, { mean, std }) {
  const area = rgb.length / 3;
  const out = new Float32Array(rgb.length);
  for (let c = 0; c < 3; c++) {
    const scale = 1 / (255 * std[c]);
    const shift = mean[c] / std[c];
    for (let i = 0; i < area; i++) out[c * area + i] = rgb[3 * i + c] * scale - shift;
  }
  return out;
}
