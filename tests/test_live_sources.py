"""Sources of frames: cameras and their clocks, video files, and streams of this host alone."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import av
import numpy as np
import pytest
from live_fakes import drain, picture

from dynagest.errors import CameraError, ClipError
from dynagest.live.capture import Capture
from dynagest.live.loopback import on_this_host
from dynagest.live.sources import Camera, VideoFile, open_source
from dynagest.stream.clock import Clock


class Device:
    """An OpenCV device: each of ``moments`` is when a picture was asked for, and the driver's stamp of it, both s."""

    def __init__(self, clock: list[float], moments: list[tuple[float, float]]) -> None:
        self.clock, self.moments = clock, list(moments)

    def isOpened(self) -> bool:
        return True

    def set(self, *_: object) -> None:
        pass

    def grab(self) -> bool:
        if self.moments:
            self.clock[0], self.stamp = self.moments.pop(0)
            return True
        return False

    def get(self, _: int) -> float:
        return self.stamp * 1000

    def retrieve(self) -> tuple[bool, np.ndarray]:
        return True, picture(0)

    def release(self) -> None:
        pass


STALLED = [(10.0, 9.97), (10.1, 10.07), (12.3, 10.17), (12.31, 10.27), (12.32, 12.29)]


@pytest.mark.parametrize(
    ("moments", "times"),
    [
        (STALLED, [9.97, 10.07, 10.17, 10.27, 12.29]),
        ([(10.0, 0.0), (10.1, 9.0), (10.2, 10.17)], [10.0, 10.1, 10.2]),
        ([(10.0, 99.97), (10.1, 100.07)], [10.0, 10.1]),
    ],
    ids=["a stall longer than the oldest stamp", "stamps that are of no clock at first", "a clock that is ahead"],
)
def test_a_camera_keeps_to_one_clock(
    moments: list[tuple[float, float]], times: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("cv2.VideoCapture", lambda _: Device(now, moments))
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    camera, clock = Camera(0), Clock(8.0, longest_gap=1.0)
    camera.open()
    found = [camera.read() for _ in moments]
    assert [each[1] for each in found if each is not None] == pytest.approx(times)
    for each in found:
        assert each is not None
        clock.push(*each)  # a step back of more than a second would be refused


def test_a_camera_whose_pictures_cannot_be_decoded_any_more_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """After thirty in a row; a sound one in between begins the count anew."""

    class Faulty(Device):
        sound = iter([False] * 29 + [True] + [False] * 30)

        def retrieve(self) -> tuple[bool, np.ndarray]:
            return next(self.sound), picture(0)

    now = [0.0]
    monkeypatch.setattr("cv2.VideoCapture", lambda _: Faulty(now, [(index / 30, 0.0) for index in range(60)]))
    camera = Camera(0)
    camera.open()
    found = []
    for _ in range(60):
        try:
            camera.read()
            found.append("sound")
        except ClipError:
            found.append("corrupt")
        except CameraError as error:
            found.append(str(error))
    assert found == [
        *(["corrupt"] * 29 + ["sound"] + ["corrupt"] * 29),
        "camera 0: 30 pictures in a row cannot be decoded",
    ]


@pytest.fixture
def write_video(tmp_path: Path) -> Callable[..., Path]:
    def write(times_ms: Sequence[int], name: str = "video.mkv") -> Path:
        path = tmp_path / name
        with av.open(str(path), "w") as container:
            stream = container.add_stream("mjpeg")
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
            stream.codec_context.time_base = Fraction(1, 1000)
            rng = np.random.default_rng(0)
            for number, stamp in enumerate(times_ms):
                image = np.full((48, 64, 3), number * 10, np.uint8)
                image[::2] = rng.integers(0, 255, (24, 64, 3), dtype=np.uint8)
                image[:8, :8] = number * 10
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                frame.pts, frame.time_base = stamp, Fraction(1, 1000)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        return path

    return write


def test_a_file_read_fast_gives_every_frame_with_its_own_time(write_video: Callable[..., Path]) -> None:
    stamps = [0, 40, 100, 133, 300, 4000, 9000]
    with Capture(VideoFile(write_video(stamps)), fast=True) as capture:
        frames = drain(capture)
    assert [round(frame.time * 1000) for frame in frames] == stamps
    assert capture.status.dropped == 0
    assert abs(float(frames[3].rgb[1:7, 1:7].mean()) - 30) < 8


def test_a_file_in_real_time_is_as_long_as_it_says(write_video: Callable[..., Path]) -> None:
    begin = time.monotonic()
    with Capture(VideoFile(write_video([0, 50, 150, 250]))) as capture:
        frames = drain(capture)
    assert time.monotonic() - begin >= 0.25
    assert frames[-1].captured - frames[0].captured == pytest.approx(0.25, abs=1e-6)


def test_a_corrupt_frame_of_a_file_is_left_out_and_the_rest_is_seen(write_video: Callable[..., Path]) -> None:
    path = write_video(range(0, 1000, 100))
    data = path.read_bytes()
    starts = [at for at in range(len(data)) if data[at : at + 3] == b"\xff\xd8\xff"]
    broken = bytearray(data)
    broken[starts[4] + 300 : starts[4] + 900] = b"\xff\xd9" * 300
    path.write_bytes(bytes(broken))
    with Capture(VideoFile(path), fast=True) as capture:
        frames = drain(capture)
    assert capture.status.corrupt == 1
    assert f"{path}: frame 4 is corrupt" in capture.status.fault
    assert [round(frame.time * 10) for frame in frames] == [0, 1, 2, 3, 5, 6, 7, 8, 9]


def test_a_truncated_file_gives_what_there_is(write_video: Callable[..., Path]) -> None:
    path = write_video(range(0, 1000, 100))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with Capture(VideoFile(path), fast=True) as capture:
        frames = drain(capture)
    assert 3 <= len(frames) <= 6


def test_what_is_no_video_is_a_named_error(tmp_path: Path) -> None:
    path = tmp_path / "text.mp4"
    path.write_text("no video")
    with pytest.raises(CameraError, match="not a video that can be read"), Capture(open_source(str(path))):
        pass


def write_twice(path: Path, frames: int) -> None:
    """A recording of ``frames`` at 10 a second, put behind itself without new times."""
    with av.open(str(path), "w", format="mpegts") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(frames):
            container.mux(stream.encode(av.VideoFrame(64, 48, "yuv420p")))
        container.mux(stream.encode())
    path.write_bytes(2 * path.read_bytes())


def test_a_video_whose_times_jump_back_is_a_named_error(tmp_path: Path) -> None:
    path = tmp_path / "two.ts"
    write_twice(path, frames=20)
    with (
        Capture(VideoFile(path), fast=True) as capture,
        pytest.raises(CameraError, match=r"two\.ts: after 1\.9 s its times jump back to 0\.0 s"),
    ):
        drain(capture)


def test_frames_a_little_older_than_the_newest_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "two.ts"
    write_twice(path, frames=8)
    with Capture(VideoFile(path), fast=True) as capture:
        frames = drain(capture)
    times = [frame.time for frame in frames]
    assert len(times) >= 8
    assert times == sorted(times)


def test_pictures_that_ffmpeg_cannot_decode_are_a_named_error(write_video: Callable[..., Path]) -> None:
    path = write_video(range(0, 300, 100))
    path.write_bytes(path.read_bytes().replace(b"V_MJPEG", b"V_OTHER"))
    with Capture(VideoFile(path), fast=True) as capture, pytest.raises(CameraError, match="FFmpeg has no decoder"):
        capture.next(5.0)


def test_a_video_without_frames_is_a_named_error(tmp_path: Path) -> None:
    path = tmp_path / "none.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        container.start_encoding()
    with Capture(VideoFile(path), fast=True) as capture, pytest.raises(CameraError, match=r"none\.avi: holds no"):
        capture.next(5.0)


@pytest.mark.parametrize(
    ("which", "says"),
    [
        ("nowhere.mp4", "no such video file"),
        ("front", "not a camera"),
        (".", "is a folder"),
        ("ftp://127.0.0.1/x", "expected http:// or rtsp://"),
        ("http://192.0.2.7/video", "another machine"),
        ("http://me:secret@127.0.0.1/video", "password"),
        ("http://127.0.0.1:99999/", "not a URL"),
    ],
)
def test_sources_that_cannot_be(which: str, says: str) -> None:
    with pytest.raises(CameraError, match=says):
        open_source(which)


def test_a_stream_that_nobody_serves_is_a_named_error() -> None:
    with pytest.raises(CameraError, match="no stream that can be read"), Capture(open_source("tcp://127.0.0.1:9")):
        pass


@pytest.fixture
def serve() -> Iterator[Callable[[bytes], str]]:
    """A server of this host: ``/video`` is the bytes given, ``/elsewhere`` sends on to it."""
    servers = []

    def start(data: bytes) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path == "/elsewhere":
                    self.send_response(302)
                    self.send_header("Location", "/video")
                    self.end_headers()
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://localhost:{servers[-1].server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_stream_of_this_host_is_read_and_opened_again_when_it_ends(
    serve: Callable[[bytes], str], write_video: Callable[..., Path]
) -> None:
    url = serve(write_video(range(0, 500, 100)).read_bytes())
    with Capture(open_source(f"{url}/video"), retry=0.05) as capture:
        frames = [frame for _ in range(100) if (frame := capture.next(0.1)) is not None and capture.status.taken < 12]
        status = capture.status
    assert frames
    assert frames[0].rgb.shape == (48, 64, 3)
    assert status.taken > 5, "the stream of 5 frames was opened again"
    assert "the stream has ended" in status.fault


def test_a_stream_is_opened_at_the_address_that_was_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """By its name it could lead elsewhere a moment later."""
    opened = []

    def refuse(url: str, **_: object) -> None:
        opened.append(url)
        raise OSError("not served")

    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: [(10, 1, 6, "", ("::1", 8000, 0, 0))])
    monkeypatch.setattr("av.open", refuse)
    with pytest.raises(CameraError, match="no stream that can be read"):
        open_source("http://camera.lan:8000/video?size=2").open()
    assert opened == ["http://[::1]:8000/video?size=2"]


def test_a_redirect_is_not_followed(serve: Callable[[bytes], str], write_video: Callable[..., Path]) -> None:
    url = serve(write_video([0, 100]).read_bytes())
    with pytest.raises(CameraError, match="no stream that can be read"), Capture(open_source(f"{url}/elsewhere")):
        pass


def test_a_proxy_is_not_asked(
    serve: Callable[[bytes], str], write_video: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = serve(write_video([0, 100]).read_bytes())
    monkeypatch.setenv("http_proxy", serve(b"of another host"))
    monkeypatch.delenv("no_proxy", raising=False)
    stream = open_source(f"{url}/video")
    stream.open()
    found = stream.read()
    stream.close()
    assert found is not None
    assert found[0].shape == (48, 64, 3)


def test_a_playlist_is_not_followed(serve: Callable[[bytes], str]) -> None:
    url = serve(b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://192.0.2.7/1.ts\n#EXT-X-ENDLIST\n")
    with pytest.raises(CameraError, match="no stream that can be read"), Capture(open_source(f"{url}/live.m3u8")):
        pass


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8000/x",
        "http://localhost/x",
        "http://[::1]:80/",
        "http://127.9.9.9",
        "http://[::ffff:127.0.0.1]",
    ],
)
def test_loopback_is_this_host(url: str) -> None:
    assert on_this_host(url, ("http",))[1] in ("127.0.0.1", "::1", "127.9.9.9", "::ffff:127.0.0.1")


@pytest.mark.parametrize(
    "url",
    ["http://0.0.0.0/", "http://10.0.0.1/", "http://[::ffff:8.8.8.8]/", "http://[fe80::1]/", "http://3232235521/"],
)
def test_every_other_address_is_refused(url: str) -> None:
    with pytest.raises(CameraError, match="another machine"):
        on_this_host(url, ("http",), CameraError)


def test_one_address_outside_among_several_is_enough_to_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [(2, 1, 6, "", ("127.0.0.1", 80)), (2, 1, 6, "", ("93.184.216.34", 80))]
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: answers)
    with pytest.raises(CameraError, match=r"rebind.example .93.184.216.34. is another machine"):
        on_this_host("http://rebind.example/", ("http",), CameraError)
