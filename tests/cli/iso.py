"""The smallest CD that boots (El Torito, no emulation): it says one letter on the serial port, for ever."""

from __future__ import annotations

SECTOR = 2048


def sector(letter: str) -> bytes:
    """A boot sector: mov dx,3f8; mov al,LETTER; out dx,al; a pause; again."""
    code = b"\xba\xf8\x03" + b"\xb0" + letter.encode() + b"\xee" + b"\xb9\xff\xff\xe2\xfe" + b"\xeb\xf3"
    return code.ljust(510, b"\0") + b"\x55\xaa"


def image(letter: str) -> bytes:
    """Sectors 16 to 20: volume, boot record, end, catalogue, code."""
    volume = (b"\1CD001\1" + b"\0" * 33).ljust(SECTOR, b"\0")
    record = (b"\0CD001\1" + b"EL TORITO SPECIFICATION".ljust(32, b"\0")).ljust(71, b"\0") + (19).to_bytes(4, "little")
    validation = bytearray(b"\1" + b"\0" * 29 + b"\x55\xaa")
    checksum = -sum(int.from_bytes(validation[i : i + 2], "little") for i in range(0, 32, 2)) & 0xFFFF
    validation[28:30] = checksum.to_bytes(2, "little")
    entry = b"\x88\0\0\0\0\0" + (4).to_bytes(2, "little") + (20).to_bytes(4, "little")
    parts = [volume, record, b"\xffCD001\1", bytes(validation) + entry, sector(letter)]
    return b"\0" * (16 * SECTOR) + b"".join(part.ljust(SECTOR, b"\0") for part in parts) + b"\0" * (SECTOR * 30)
