"""Drives gdb through an EFI boot that `bootscope gdb` holds, and prints what it saw as lines of JSON.

Run by gdb.test.ts: gdb -nx -batch -ex "python remote = '...'; root = '...'; places = {...}" -x gdb-efi-session.py
"""

import sys

import gdb

sys.path.insert(0, root + "/test")
from gdb_tools import byte_at, number, prepare, tell

prepare(root)
gdb.execute("target remote " + remote)
tell("entry")
gdb.execute("stepi 3")
gdb.execute("reverse-stepi 3")
tell("back at the entry")

for name, address in places:
    gdb.execute("hbreak *%s" % address)
    gdb.execute("continue")
    tell(name)
gdb.execute("delete")

# What the kernel gets in RSI are boot_params: back to what wrote the number of E820 entries, and on again.
boot_params = number("$rsi")
entries = boot_params + 0x1E8
after = byte_at(entries)
gdb.execute("watch *(unsigned char *) %d" % entries)
gdb.execute("reverse-continue")
tell("last write", after=after, value=byte_at(entries))
gdb.execute("stepi")
tell("behind the write", value=byte_at(entries))
gdb.execute("delete")

gdb.execute("bootscope-goto kernel")
names = ("phases", "events efi", "show efi-memory-map", "who 0x%x" % entries)
tell("monitor", monitor={name.split(" 0x")[0]: gdb.execute("monitor " + name, to_string=True) for name in names})

# To a firmware call, over it, and back.
gdb.execute("bootscope-goto efi:3")
tell("before the call")
gdb.execute("stepi")
gdb.execute("reverse-stepi")
tell("before the call again")
gdb.execute("reverse-continue")
tell("the end")
gdb.execute("kill")
