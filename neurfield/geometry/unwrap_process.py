# SPDX-License-Identifier: Apache-2.0
"""xatlas, run as a script by texture.unwrapped: it lets no other thread of Python go on, for seconds.

Arrays of NumPy's .npz come on the standard input and go to the standard output.
"""

import io
import sys

import numpy as np
import xatlas


def main() -> None:
    with np.load(io.BytesIO(sys.stdin.buffer.read())) as given:
        atlas, options = xatlas.Atlas(), xatlas.PackOptions()
        atlas.add_mesh(given["vertices"], given["faces"], given["normals"])
        options.resolution, options.padding = int(given["size"]), int(given["padding"])
    atlas.generate(pack_options=options)
    vertex, faces, uv = atlas[0]
    found = io.BytesIO()
    np.savez(found, vertex=vertex, faces=faces, uv=uv)
    sys.stdout.buffer.write(found.getvalue())


if __name__ == "__main__":
    main()
