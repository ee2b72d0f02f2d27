"""Teach, as a client sees it: what may be uploaded, and where it goes."""

import errno
import json
import os
import shutil
import struct
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from starlette.testclient import TestClient
from web_helpers import CLIP, ORIGIN, body, client_of, make_site, picture, post, request, running

from dynagest.clips.checks.check import check
from dynagest.clips.frames import FrameReader
from dynagest.clips.manifest import Clip, Manifest
from dynagest.clips.video import video_rate
from dynagest.web import recording
from dynagest.web.app import Site, create_app
from dynagest.web.clips import ClipFolder
from dynagest.web.guard import RequestError
from dynagest.web.recording import CLIP_TYPE, Frames, Limits


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return make_site(tmp_path)


@pytest.fixture
def client(site: Site) -> Iterator[TestClient]:
    with client_of(site) as made:
        yield made


def write_foreign(path: Path, codec: bytes = b"") -> None:
    """A clip that this program did not write, in MPEG-4; or, by its header, in another ``codec``."""
    with av.open(str(path), "w", format="matroska") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for value in range(10):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 20 * value, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    if codec:
        path.write_bytes(path.read_bytes().replace(b"V_MPEG4/ISO/ASP", codec))


def segment(kind: int, content: bytes) -> bytes:
    """A segment of a JPEG."""
    return struct.pack(">BBH", 0xFF, kind, len(content) + 2) + content


class TestUploads:
    def test_a_clip_is_kept_with_its_times_and_comes_back(self, client: TestClient, site: Site, tmp_path: Path) -> None:
        times = [0, 0.04, 0.08, 0.2, 0.24, 0.3, 0.5, 0.501, 0.6, 1.0]
        answer = client.post("/api/gestures/thumbs up/clips", content=body(times=[5 + t for t in times]), headers=CLIP)
        assert answer.status_code == 201
        video = tmp_path / "gestures" / "thumbs up" / "001.mkv"
        written = video.stat().st_mtime
        assert answer.json() == {"name": "001", "frames": 10, "seconds": 1.0, "written": written, "fault": ""}
        assert FrameReader().count(video) == 10
        assert video_rate(video) == pytest.approx(9.0)
        assert client.get("/api/gestures").json()["gestures"] == [{"label": "thumbs up", "clips": [answer.json()]}]

        back = client.get("/api/gestures/thumbs up/clips/001").content
        length = struct.unpack_from("<4sI", back)[1]
        header = json.loads(back[8 : 8 + length])
        assert header["times"] == pytest.approx(times, abs=1e-6)
        assert len(back) == 8 + length + sum(header["sizes"])
        shown = client.get("/api/gestures/thumbs up/clips/001/picture")
        assert shown.headers["content-type"] == "image/jpeg"
        middle = cv2.imdecode(np.frombuffer(shown.content, np.uint8), cv2.IMREAD_COLOR)
        assert int(middle[5, 5, 0]) == pytest.approx(100, abs=4), "the sixth of ten"

    def test_the_folder_is_what_data_check_accepts(self, client: TestClient, tmp_path: Path) -> None:
        for label in ("wave", "none", "wave"):
            assert post(client, label)[0] == 201
        manifest = Manifest.read(tmp_path / "gestures")
        assert sorted(clip.label for clip in manifest.clips) == ["none", "wave", "wave"]
        assert not check(manifest, 8).errors

    def test_nothing_changes_while_the_manifest_is_broken(self, client: TestClient, tmp_path: Path) -> None:
        post(client)
        manifest = tmp_path / "gestures" / "manifest.csv"
        whole, broken = manifest.read_text(), "video,label\nwave/001.mkv,no such column\n"
        manifest.write_text(broken)
        status, error = post(client)
        assert (status, "manifest.csv" in error) == (409, True)
        answer = client.delete("/api/gestures/wave/clips/001", headers=ORIGIN)
        assert (answer.status_code, "manifest.csv" in answer.json()["error"]) == (409, True)
        assert [path.name for path in (tmp_path / "gestures" / "wave").iterdir()] == ["001.mkv"]
        assert manifest.read_text() == broken
        manifest.write_text(whole)
        assert post(client)[0] == 201

    def test_nothing_is_kept_that_cannot_be_listed(self, client: TestClient, tmp_path: Path) -> None:
        (tmp_path / "gestures" / "wave" / "empty").mkdir(parents=True)
        status, error = post(client)
        assert (status, "what is no clip; rename it or move it elsewhere" in error) == (409, True)
        assert [path.name for path in (tmp_path / "gestures" / "wave").iterdir()] == ["empty"]

    def test_a_manifest_of_clips_elsewhere_is_kept(self, client: TestClient, tmp_path: Path) -> None:
        write_foreign(tmp_path / "old.mkv")
        (tmp_path / "gestures").mkdir()
        Manifest((Clip(tmp_path / "old.mkv", "wave"),), ("wave",)).write(tmp_path / "gestures" / "manifest.csv")
        assert post(client)[0] == 201
        assert len(Manifest.read(tmp_path / "gestures")) == 2

    def test_delete(self, client: TestClient, tmp_path: Path) -> None:
        for _ in range(2):
            post(client)
        assert client.delete("/api/gestures/wave/clips/001", headers=ORIGIN).status_code == 204
        assert len(Manifest.read(tmp_path / "gestures")) == 1
        assert client.delete("/api/gestures/wave/clips/001", headers=ORIGIN).status_code == 404
        assert client.delete("/api/gestures/wave/clips/002", headers=ORIGIN).status_code == 204
        assert client.get("/api/gestures").json()["gestures"] == []
        assert list((tmp_path / "gestures").iterdir()) == []

    @pytest.mark.parametrize(
        ("label", "status"),
        [
            ("%2e%2e", 400), ("..%2fetc", 400), ("a%2fb", 404), ("a%00b", 400), ("a%0ab", 400), ("%20", 422),
            ("train", 422), ("nul", 422), ("x" * 65, 422), (".hidden", 422), ("a%5cb", 400), ("<script>", 422),
            ("%ff%fe", 422),
        ],
    )  # fmt: skip
    def test_names_that_are_none(self, site: Site, tmp_path: Path, label: str, status: int) -> None:
        content = body()
        head = (
            f"POST /api/gestures/{label}/clips HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\n"
            f"Content-Type: {CLIP_TYPE}\r\nContent-Length: {len(content)}\r\nConnection: close\r\n\r\n"
        )
        with running(create_app(site)) as port:
            got, text = request(port, head, content)
        assert (got, "error" in json.loads(text)) == (status, True)
        assert not (tmp_path / "gestures").exists()

    def test_one_name_in_two_spellings(self, client: TestClient) -> None:
        assert post(client, "wave")[0] == 201
        status, error = post(client, "Wave")
        assert status == 422
        assert "'wave' already" in error

    @pytest.mark.parametrize(
        ("content", "word"),
        [
            (b"", "DGC1"),
            (b"\x00" * 100, "DGC1"),
            (b"DGC1\xff\xff\xff\xff", "header"),
            (body(header=b"{not json"), "JSON"),
            (body(header=b"[" * 90_000), "JSON"),
            (body(header=[1, 2]), "times and sizes"),
            (body(header={"times": "abc", "sizes": [1]}), "numbers"),
            (body(header={"times": [True] * 10, "sizes": [1] * 10}), "numbers"),
            (body(header={"times": [0.0], "sizes": [1, 2]}), "one size for each picture"),
            (body(header={"times": [], "sizes": []}), "0 frames"),
            (body(header={"times": [10**400 + k for k in range(10)], "sizes": [1] * 10}), "rise"),
            (body(header=b'{"times": [NaN,1,2,3,4,5,6,7,8,9], "sizes": [1,1,1,1,1,1,1,1,1,1]}'), "rise"),
            (body(header={"times": list(range(10)), "sizes": [-1] * 10}), "as long"),
            (body(header={"times": list(range(10)), "sizes": [10**30] * 10}), "as long"),
            (body(header=b'{"times": [], "sizes": []' + b" " * 100_000 + b"}"), "longer than the clip, or than any"),
            (body(times=[0.0] * 10), "rise"),
            (body(times=[0.0009 * k for k in range(10)]), "rise, by a millisecond at least"),
            (body(times=[10.0 * k for k in range(10)]), "90.0 seconds"),
            (body() + b"more", "as long"),
            (body()[:-1], "as long"),
            (body([picture()] * 3), "3 frames; 8 to 600 are taken, so record for a longer time"),
            (body([picture()[:40]] * 10), "whole JPEG"),
            (body([b"GIF89a" + bytes(50)] * 10), "whole JPEG"),
            (body([picture()[:-60] + b"\xff\xd9"] * 10), "whole JPEG"),
            (body([picture()] * 9 + [picture(width=80)]), "another size"),
            (body([picture(width=1400)] * 10), "1400 x 48"),
            (body([picture(width=64, height=8)] * 10), "64 x 8"),
        ],
    )
    def test_bodies_that_are_no_clip(self, client: TestClient, tmp_path: Path, content: bytes, word: str) -> None:
        status, error = post(client, "wave", content)
        assert status == 422
        assert word in error
        assert not (tmp_path / "gestures").exists()

    def test_a_small_file_that_claims_to_be_an_enormous_picture(self, client: TestClient) -> None:
        small = picture()
        at = small.index(b"\xff\xc0") + 5
        bomb = small[:at] + struct.pack(">HH", 65500, 65500) + small[at + 4 :]
        status, error = post(client, "wave", body([bomb] * 10))
        assert status == 422
        assert "65500" in error

    @pytest.mark.parametrize("kind", ["restart", "fill", "height later", "frame in a comment", "second frame"])
    def test_a_picture_whose_size_only_some_decoders_would_find(
        self, client: TestClient, monkeypatch: pytest.MonkeyPatch, kind: str
    ) -> None:
        decoded: list[bytes] = []
        monkeypatch.setattr(recording, "is_damaged", decoded.append)
        small, large = picture(), picture(width=4000, height=4000)
        frame = small[small.index(b"\xff\xc0") :][:19]
        hidden = segment(0xFE, bytes(0xFF00)) + segment(0xFE, bytes(246) + frame + bytes(20))
        tricky = {
            # Who takes the restart for a segment, as long as the next marker's bytes say, finds the frame in a comment.
            "restart": b"\xff\xd8\xff\xd0" + hidden + large[2:],
            "fill": b"\xff\xd8\xff" + large[2:],
            "height later": large[:-2] + segment(0xDC, b"\x00\x30") + b"\xff\xd9",
            "frame in a comment": b"\xff\xd8" + segment(0xFE, frame) + large[2:],
            "second frame": small[:-2] + large[2:],
        }[kind]
        status, error = post(client, "wave", body([tricky] * 10))
        assert status == 422
        assert ("is 4000 x 4000" if kind == "frame in a comment" else "whole JPEG") in error
        assert decoded == []

    def test_a_picture_of_another_size_than_it_says(self) -> None:
        frames = Frames((picture(), picture(width=80)), (48, 64))
        assert frames[0].shape == (48, 64, 3)
        with pytest.raises(RequestError, match="picture 1 of the clip is not a whole JPEG"):
            frames[1]

    @pytest.mark.parametrize(
        "flag", [cv2.IMWRITE_JPEG_PROGRESSIVE, cv2.IMWRITE_JPEG_OPTIMIZE, cv2.IMWRITE_JPEG_RST_INTERVAL]
    )
    def test_pictures_of_other_encoders(self, client: TestClient, flag: int) -> None:
        noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
        jpeg = cv2.imencode(".jpg", noise, [flag, 1])[1].tobytes()
        assert post(client, "wave", body([jpeg + b"a camera's own bytes"] * 10))[0] == 201

    def test_pictures_are_decoded_one_by_one_and_clips_one_after_another(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        clips = site.clips
        assert clips is not None
        decode, turns = cv2.imdecode, []
        monkeypatch.setattr(
            recording.cv2, "imdecode", lambda *given: (turns.append(clips._change.locked()), decode(*given))[1]
        )
        content = body([picture(k, 400, 400) for k in range(60)], times=[k / 30 for k in range(60)])
        tracemalloc.start()
        clips.add("wave", content)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert most < 8e6  # all at once are 28.8 MB
        assert set(turns) == {True}

    def test_headers_of_the_body(self, client: TestClient) -> None:
        def status(headers: dict[str, str], content: bytes = body()) -> int:
            return client.post("/api/gestures/wave/clips", content=content, headers=ORIGIN | headers).status_code

        assert status({"content-type": "multipart/form-data; boundary=x"}) == 415
        assert status({}) == 415
        assert status({"content-type": CLIP_TYPE, "content-length": "99999999999"}) == 413
        assert status({"content-type": CLIP_TYPE, "content-length": "10"}, bytes(16_000_001)) == 413
        assert client.post("/api/gestures/wave/clips", content=iter([b"DGC1"]), headers=CLIP).status_code == 411

    def test_too_many(self, tmp_path: Path) -> None:
        with client_of(make_site(tmp_path, Limits(gestures=2, clips=1))) as client:
            assert [post(client, name)[0] for name in ("a", "b", "c", "a")] == [201, 201, 409, 409]

    def test_a_full_disk(self, tmp_path: Path) -> None:
        with client_of(make_site(tmp_path, Limits(free_bytes=10**18))) as client:
            assert post(client) == (507, "the disk of this machine is nearly full")

    def test_a_folder_that_cannot_be_changed(
        self, client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object, **__: object) -> None:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

        wanted = "gestures: cannot be changed (Read-only file system); start with another --data"
        with monkeypatch.context() as patch:
            patch.setattr(Path, "mkdir", refuse)
            status, error = post(client)
        assert (status, error.endswith(wanted)) == (409, True)
        assert post(client)[0] == 201
        with monkeypatch.context() as patch:
            patch.setattr(Path, "unlink", refuse)
            answer = client.delete("/api/gestures/wave/clips/001", headers=ORIGIN)
        assert (answer.status_code, answer.json()["error"].endswith(wanted)) == (409, True)
        assert len(Manifest.read(tmp_path / "gestures")) == 1

    def test_links_are_not_followed(self, client: TestClient, tmp_path: Path) -> None:
        post(client)
        (tmp_path / "secret.mkv").write_bytes((tmp_path / "gestures/wave/001.mkv").read_bytes())
        (tmp_path / "gestures/wave/002.mkv").symlink_to(tmp_path / "secret.mkv")
        (tmp_path / "gestures/other").symlink_to(tmp_path / "gestures/wave", target_is_directory=True)
        assert client.get("/api/gestures/wave/clips/002").status_code == 404
        assert client.get("/api/gestures/other/clips/001").status_code == 404
        assert client.delete("/api/gestures/wave/clips/002", headers=ORIGIN).status_code == 404
        assert (tmp_path / "secret.mkv").exists()
        status, error = post(client, "other")
        assert (status, "other is a link" in error) == (422, True)
        assert len(list((tmp_path / "gestures/wave").iterdir())) == 2

    def test_names_are_as_long_as_those_of_folders_may_be(self, client: TestClient) -> None:
        letter = "\N{CJK UNIFIED IDEOGRAPH-20000}"
        assert post(client, letter * 63)[0] == 201
        status, error = post(client, letter * 64)
        assert (status, "takes 256 bytes" in error) == (422, True)
        assert client.get(f"/api/gestures/{letter * 64}/clips/001").status_code == 422

    def test_a_clip_that_goes_while_they_are_listed(
        self, client: TestClient, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for label in ("a", "a", "b"):
            post(client, label)
        assert site.clips is not None
        folder, find = site.clips.folder, ClipFolder._clips

        def found(self: ClipFolder, label: str) -> list[Path]:
            if label == "b":
                shutil.rmtree(folder / "b", ignore_errors=True)
            paths = find(self, label)
            (folder / "a" / "001.mkv").unlink(missing_ok=True)
            return paths

        monkeypatch.setattr(ClipFolder, "_clips", found)
        listed = client.get("/api/gestures").json()["gestures"]
        assert [[clip["name"] for clip in each["clips"]] for each in listed] == [["002"], []]

    @pytest.mark.parametrize("name", ["002", "..", "%2e%2e", "001.mkv", "x" * 80, "a%20b"])
    def test_clips_that_are_none(self, client: TestClient, name: str) -> None:
        post(client)
        assert client.get(f"/api/gestures/wave/clips/{name}").status_code in (400, 404)

    def test_a_file_that_is_no_video(self, client: TestClient, tmp_path: Path) -> None:
        post(client)
        (tmp_path / "gestures/wave/007.mkv").write_bytes(b"nothing")
        answer = client.get("/api/gestures/wave/clips/007")
        assert answer.status_code == 409
        assert "delete it" in answer.json()["error"]

    def test_files_that_cannot_be_shown_are_listed_and_deleted(self, client: TestClient, tmp_path: Path) -> None:
        post(client)
        home = tmp_path / "gestures" / "wave"
        write_foreign(home / "002.mkv")
        write_foreign(home / "003.mkv", codec=b"V_NOTHING/KNOWN")
        (home / "004.mkv").write_bytes(b"nothing")
        (gesture,) = client.get("/api/gestures").json()["gestures"]
        assert [clip["frames"] for clip in gesture["clips"]] == [10, 0, 0, 0]
        kind, damaged = "is no Motion JPEG with times; only that is shown here", "cannot be read; delete it"
        faults = ["", f"wave/002.mkv {kind}", f"wave/003.mkv {kind}", f"wave/004.mkv {damaged}"]
        assert [clip["fault"] for clip in gesture["clips"]] == faults
        assert client.get("/api/gestures/wave/clips/002/picture").json() == {"error": faults[1]}
        for name in ("001", "003", "004"):  # the foreign one stays
            assert client.delete(f"/api/gestures/wave/clips/{name}", headers=ORIGIN).status_code == 204
        assert [clip.video.name for clip in Manifest.read(tmp_path / "gestures").clips] == ["002.mkv"]
        assert client.delete("/api/gestures/wave/clips/002", headers=ORIGIN).status_code == 204
        assert list((tmp_path / "gestures").iterdir()) == []

    def test_a_clip_whose_tags_are_not_utf8_is_shown(self, client: TestClient, tmp_path: Path) -> None:
        assert post(client) == (201, "")
        path = tmp_path / "gestures" / "wave" / "001.mkv"
        path.write_bytes(path.read_bytes().replace(b"Lav", b"La\xff"))  # the encoder's name
        (gesture,) = client.get("/api/gestures").json()["gestures"]
        written = path.stat().st_mtime
        assert gesture["clips"] == [{"name": "001", "frames": 10, "seconds": 0.9, "written": written, "fault": ""}]

    def test_what_a_file_manager_leaves_behind_is_no_clip(self, client: TestClient, tmp_path: Path) -> None:
        post(client)
        (tmp_path / "gestures/wave/.DS_Store").write_bytes(b"")
        assert client.delete("/api/gestures/wave/clips/001", headers=ORIGIN).status_code == 204
        assert [path.name for path in (tmp_path / "gestures").iterdir()] == ["wave"]

    def test_two_at_once_get_two_numbers(self, site: Site) -> None:
        assert site.clips is not None
        with ThreadPoolExecutor(4) as pool:
            names = {each.name for each in pool.map(lambda _: site.clips.add("wave", body()), range(8))}  # type: ignore[union-attr]
        assert names == {f"{k:03d}" for k in range(1, 9)}
        assert len(Manifest.read(site.clips.folder)) == 8

    def test_no_teach(self, site: Site) -> None:
        with client_of(replace(site, clips=None, training=None, teach_off="not here")) as client:
            assert client.get("/api/gestures").json() == {"teach": False, "reason": "not here", "gestures": []}
            assert post(client) == (403, "nothing can be recorded here: not here")
            assert client.get("/api/training").status_code == 403


def test_known_clips_are_described_once(tmp_path: Path) -> None:
    folder = ClipFolder(tmp_path)
    added = folder.add("wave", body())
    assert folder.listing() == [{"label": "wave", "clips": [asdict(added)]}]
    assert folder.read("wave", added.name).times[-1] == pytest.approx(0.9)
