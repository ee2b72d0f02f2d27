// A clip as it travels between page and server; the format is described in src/dynagest/web/recording.py.

const MAGIC = 0x31434744; // "DGC1", little-endian

/** @param {Blob[]} pictures JPEGs  @param {number[]} times seconds  @returns {Promise<Blob>} */
export async function pack(pictures, times) {
  const header = new TextEncoder().encode(JSON.stringify({ times, sizes: pictures.map((each) => each.size) }));
  const head = new DataView(new ArrayBuffer(8));
  head.setUint32(0, MAGIC, true);
  head.setUint32(4, header.length, true);
  return new Blob([head, header, ...pictures]);
}

/** @param {ArrayBuffer} body  @returns {{pictures: Blob[], times: number[]}} */
export function unpack(body) {
  const head = new DataView(body);
  if (head.getUint32(0, true) !== MAGIC) throw new Error("The server sent something that is no clip.");
  const length = head.getUint32(4, true);
  const { times, sizes } = JSON.parse(new TextDecoder().decode(new Uint8Array(body, 8, length)));
  let at = 8 + length;
  const pictures = sizes.map((size) => {
    const picture = new Blob([new Uint8Array(body, at, size)], { type: "image/jpeg" });
    at += size;
    return picture;
  });
  return { pictures, times };
}
