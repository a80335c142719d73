"""Signs in by hand, then announces a message of one gibibyte. It must be told off, or at least hung up on."""

import os
import socket
import ssl
import struct


def message(kind, body):
    return kind + struct.pack("!I", len(body) + 4) + body


raw = socket.create_connection(("127.0.0.1", int(os.environ["PGPORT"])), timeout=30)
raw.sendall(struct.pack("!II", 8, 80877103))
assert raw.recv(1) == b"S"
context = ssl.create_default_context(cafile=os.environ["PGSSLROOTCERT"])
conn = context.wrap_socket(raw, server_hostname="localhost")
startup = struct.pack("!I", 196608) + b"user\0" + os.environ["PGUSER"].encode() + b"\0database\0shop\0\0"
conn.sendall(struct.pack("!I", len(startup) + 4) + startup)
said = b""
while b"R\0\0\0\x08\0\0\0\x03" not in said:
    piece = conn.recv(4096)
    assert piece, said
    said += piece
conn.sendall(message(b"p", os.environ["PGPASSWORD"].encode() + b"\0"))
said = b""
while not said.endswith(b"Z\0\0\0\x05I"):
    piece = conn.recv(4096)
    assert piece, said
    said += piece

conn.sendall(b"Q" + struct.pack("!I", 1 << 30) + b"SELECT 1")
said = b""
try:
    while True:
        piece = conn.recv(4096)
        if not piece:
            break
        said += piece
except (ConnectionError, ssl.SSLError):
    pass
assert said.startswith(b"E"), said
print(said)
