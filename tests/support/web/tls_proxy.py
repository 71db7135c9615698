"""A proxy on loopback that speaks TLS to its callers, with a certificate of an authority that no system trusts."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class TlsProxy:
    """Where it answers, and the file with the certificate of its authority."""

    url: str
    authority: Path


@contextlib.contextmanager
def running(store_url: str, folder: Path) -> Iterator[TlsProxy]:
    """Pass on whatever comes, to a store without TLS."""
    host, port = store_url.removeprefix("http://").rstrip("/").split(":")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(_make_certificates(folder))
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=_accept, args=(listener, context, (host, int(port))))
    thread.start()
    try:
        yield TlsProxy(f"https://127.0.0.1:{listener.getsockname()[1]}", folder / "authority.pem")
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def _accept(listener: socket.socket, context: ssl.SSLContext, store: tuple[str, int]) -> None:
    callers: list[threading.Thread] = []
    with contextlib.suppress(OSError):
        while True:
            plain, _ = listener.accept()
            callers.append(threading.Thread(target=_serve, args=(plain, context, store), daemon=True))
            callers[-1].start()


def _serve(plain: socket.socket, context: ssl.SSLContext, store: tuple[str, int]) -> None:
    with (
        contextlib.suppress(OSError),
        plain,
        context.wrap_socket(plain, server_side=True) as caller,
        socket.create_connection(store) as behind,
    ):
        back = threading.Thread(target=_pass_on, args=(behind, caller), daemon=True)
        back.start()
        _pass_on(caller, behind)
        back.join()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def _make_certificates(folder: Path) -> Path:
    """Write the authority's certificate, and return a file with the proxy's certificate and key."""
    folder.mkdir(parents=True, exist_ok=True)
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    names = [
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
        for text in ("an authority of the tests", "the proxy")
    ]
    now = datetime.datetime.now(datetime.UTC)
    written = []
    for number, is_authority in enumerate((True, False)):
        builder = (
            x509.CertificateBuilder()
            .subject_name(names[number])
            .issuer_name(names[0])
            .public_key(keys[number].public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        )
        if not is_authority:
            address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
            builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
        written.append(builder.sign(keys[0], hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    (folder / "authority.pem").write_bytes(written[0])
    key = keys[1].private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file = folder / "proxy.pem"
    file.write_bytes(written[1] + key)
    return file
