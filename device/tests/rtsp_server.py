"""A small real RTSP server for tests: one MJPEG stream (RFC 2435) over TCP (RFC 2326, interleaved)."""

from __future__ import annotations

import socket
import socketserver
import struct
import threading
import time

import cv2
import numpy as np

_CLOCK_HZ = 90_000
_MOST_BYTES = 1400
_SDP = (
    "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=test\r\nt=0 0\r\nm=video 0 RTP/AVP 26\r\na=rtpmap:26 JPEG/90000\r\n"
    "a=framerate:{fps}\r\na=control:track1\r\n"
)


def jpeg_parts(data: bytes) -> tuple[bytes, bytes]:
    """(quantisation tables, entropy-coded scan) of a baseline JPEG with the standard Huffman tables."""
    tables, at = b"", 2
    while True:
        marker, length = data[at + 1], struct.unpack(">H", data[at + 2 : at + 4])[0]
        body = data[at + 4 : at + 2 + length]
        if marker == 0xDB:
            while body:
                tables, body = tables + body[1:65], body[65:]
        at += 2 + length
        if marker == 0xDA:
            return tables, data[at:-2]


class RtspServer(socketserver.ThreadingTCPServer):
    """Plays a scene to everybody who asks.

    Attributes:
        silent: Set to keep the connection and send nothing more.
        hang_up: Set to end every stream.
        authorization: If set, the header that every request must bring.
    """

    allow_reuse_address = daemon_threads = True

    def __init__(self, color_rgb: tuple[int, int, int], fps: float = 20.0, authorization: str | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.color_rgb, self.fps, self.authorization = color_rgb, fps, authorization
        self.silent, self.hang_up = threading.Event(), threading.Event()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def picture(self, number: int) -> bytes:
        image = np.full((240, 320, 3), self.color_rgb[::-1], np.uint8)
        cv2.circle(image, (20 + number * 5 % 280, 200), 15, (200, 200, 200), -1)
        sampling = [cv2.IMWRITE_JPEG_QUALITY, 90]
        if hasattr(cv2, "IMWRITE_JPEG_SAMPLING_FACTOR"):  # Debian 12's OpenCV 4.6 has no such choice: 4:2:0 always.
            sampling += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420]
        return bytes(cv2.imencode(".jpg", image, sampling)[1].tobytes())

    def __exit__(self, *cause: object) -> None:
        self.hang_up.set()
        self.shutdown()
        super().__exit__(*cause)


class _Handler(socketserver.StreamRequestHandler):
    server: RtspServer

    def handle(self) -> None:
        while (request := self._request()) is not None:
            method, headers = request
            if self.server.authorization and headers.get("authorization") != self.server.authorization:
                self._answer("401 Unauthorized", headers, 'WWW-Authenticate: Basic realm="camera"\r\n')
            elif method == "OPTIONS":
                self._answer("200 OK", headers, "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n")
            elif method == "DESCRIBE":
                self._answer("200 OK", headers, "Content-Type: application/sdp\r\n", _SDP.format(fps=self.server.fps))
            elif method == "SETUP":
                self._answer("200 OK", headers, "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n")
            elif method == "PLAY":
                self._answer("200 OK", headers, "Session: 1\r\nRange: npt=0-\r\n")
                self._play()
                return
            else:
                return

    def _request(self) -> tuple[str, dict[str, str]] | None:
        first = self.rfile.readline().decode("ascii", "replace")
        if not first.strip():
            return None
        headers = {}
        while line := self.rfile.readline().decode("ascii", "replace").strip():
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        return first.split()[0], headers

    def _answer(self, status: str, headers: dict[str, str], extra: str = "", body: str = "") -> None:
        head = f"RTSP/1.0 {status}\r\nCSeq: {headers.get('cseq', '0')}\r\n{extra}Content-Length: {len(body)}\r\n\r\n"
        self.wfile.write((head + body).encode())

    def _play(self) -> None:
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sequence = number = 0
        began = time.monotonic()
        while not self.server.hang_up.is_set():
            if self.server.silent.is_set():
                time.sleep(0.05)
                continue
            tables, scan = jpeg_parts(self.server.picture(number))
            stamp = int((time.monotonic() - began) * _CLOCK_HZ) & 0xFFFFFFFF
            for at in range(0, len(scan), _MOST_BYTES):
                part = scan[at : at + _MOST_BYTES]
                last = at + _MOST_BYTES >= len(scan)
                # RFC 2435: type 1 is 4:2:0; Q 255 says that the tables come along, in the first packet.
                head = struct.pack(">B3sBBBB", 0, at.to_bytes(3, "big"), 1, 255, 320 // 8, 240 // 8)
                if at == 0:
                    head += struct.pack(">BBH", 0, 0, len(tables)) + tables
                rtp = struct.pack(">BBHII", 0x80, 26 | (0x80 if last else 0), sequence & 0xFFFF, stamp, 7)
                packet = rtp + head + part
                try:
                    self.wfile.write(b"$\x00" + struct.pack(">H", len(packet)) + packet)
                except OSError:
                    return
                sequence += 1
            number += 1
            time.sleep(1 / self.server.fps)


def main() -> None:
    """Play for ever, for a try by hand."""
    with RtspServer((220, 20, 20)) as server:
        print(f"rtsp://127.0.0.1:{server.port}/cam")
        threading.Event().wait()


if __name__ == "__main__":
    main()
