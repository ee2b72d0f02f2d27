// The camera: lists cameras, starts and stops one, and gives its frames with the times at which they were taken.

const WANTED = { width: { ideal: 640 }, height: { ideal: 480 }, frameRate: { ideal: 30 } };
const STATES = {
  NotAllowedError: "denied",
  SecurityError: "denied",
  NotFoundError: "missing",
  OverconstrainedError: "missing",
  NotReadableError: "busy",
  AbortError: "busy",
};
const PATIENCE = 10_000; // milliseconds that a camera may take to its first picture

/**
 * Dispatches events: `frame` {time, arrived} for each new picture in `video`; `lost` when the camera goes away;
 * `stopped` then and whenever it is turned off; `found` when devices were plugged in or out. `time` are seconds of the
 * page's clock, which go on from one stream to the next; `arrived` is the performance.now() at which the picture was
 * taken or, where the browser does not tell, came.
 */
export class Camera extends EventTarget {
  /** @param {HTMLVideoElement} video shows the picture */
  constructor(video) {
    super();
    this.video = video;
    this.stream = null;
    this.starts = 0; // how many there were
    this.begun = null; // the performance.now() at which the stream's own clock was 0
    navigator.mediaDevices?.addEventListener("devicechange", () => this.dispatchEvent(new Event("found")));
  }

  get running() {
    return this.stream !== null;
  }

  /**
   * Start a camera, or another one. Of several starts at once the last one counts, in whatever order they are answered.
   * @returns {Promise<string>} "on", or why not: "insecure", "old", "denied", "missing", "busy"; "replaced" if another
   * start came after this one
   */
  async start(deviceId) {
    if (!navigator.mediaDevices?.getUserMedia) return self.isSecureContext ? "old" : "insecure";
    if (!this.video.requestVideoFrameCallback) return "old";
    this.stop();
    const turn = ++this.starts;
    const choice = deviceId ? { deviceId: { exact: deviceId } } : { facingMode: "user" };
    let stream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({ video: { ...WANTED, ...choice }, audio: false });
    } catch (error) {
      return turn === this.starts ? (STATES[error.name] ?? "busy") : "replaced";
    }
    if (turn !== this.starts) {
      // Another start came in between, as when arrow keys move through the list of cameras.
      for (const track of stream.getTracks()) track.stop();
      return "replaced";
    }
    this.stream = stream;
    this.video.srcObject = stream;
    const [track] = stream.getVideoTracks();
    track.addEventListener("ended", () => this.stream === stream && this.lose());
    // Shown mirrored, as people know themselves, unless the camera faces away; the network's picture is never mirrored.
    this.video.classList.toggle("mirrored", track.getSettings().facingMode !== "environment");
    const playing = this.video.play().then(() => "on", () => "busy");
    const late = new Promise((resolve) => setTimeout(resolve, PATIENCE, "busy"));
    const played = await Promise.race([playing, late]);
    if (turn !== this.starts) return "replaced";
    if (played === "busy") {
      this.stop();
      return "busy";
    }
    this.video.requestVideoFrameCallback((now, frame) => this.take(stream, now, frame));
    return "on";
  }

  stop() {
    for (const track of this.stream?.getTracks() ?? []) track.stop();
    this.stream = this.begun = null;
    this.video.srcObject = null;
    this.dispatchEvent(new Event("stopped"));
  }

  /** [{id, name, chosen}] of all cameras; names are known only once one was allowed. */
  async list() {
    const devices = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
    const chosen = this.stream?.getVideoTracks()[0]?.getSettings().deviceId;
    return devices
      .filter((device) => device.kind === "videoinput" && device.deviceId)
      .map((device, k) => ({ id: device.deviceId, name: device.label || `Camera ${k + 1}`, chosen: device.deviceId === chosen }));
  }

  /** The current picture, unmirrored, at most `side` pixels on its shorter side. */
  picture(side = Infinity) {
    const { videoWidth: width, videoHeight: height } = this.video;
    const scale = Math.min(1, side / Math.min(width, height));
    if (scale === 1) return createImageBitmap(this.video);
    const size = { resizeWidth: Math.round(width * scale), resizeHeight: Math.round(height * scale) };
    return createImageBitmap(this.video, { ...size, resizeQuality: "medium" });
  }

  take(stream, now, frame) {
    if (this.stream !== stream) return;
    this.video.requestVideoFrameCallback((later, next) => this.take(stream, later, next));
    // Both clocks are the camera's. Firefox lacks captureTime, and mediaTime begins anew with each stream.
    this.begun ??= now - 1000 * frame.mediaTime;
    const taken = frame.captureTime ?? this.begun + 1000 * frame.mediaTime;
    const detail = { time: taken / 1000, arrived: frame.captureTime ?? now };
    this.dispatchEvent(new CustomEvent("frame", { detail }));
  }

  lose() {
    this.stop();
    this.dispatchEvent(new Event("lost"));
  }
}
