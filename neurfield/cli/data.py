# SPDX-License-Identifier: Apache-2.0
"""`neurfield data info|make|download`: a report on a data set, the project's own scenes, public sets."""

import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from neurfield.cli._signal_options import refuse_scene_options
from neurfield.data.options import SPLITS, LoadOptions, ReadOptions
from neurfield.errors import UserError
from neurfield.files import atomic_folder, atomic_path, refuse_existing

if TYPE_CHECKING:
    from neurfield.data.report import Report

SEARCH_DEPTH = 3


@dataclass(frozen=True)
class InfoOptions:
    """Prints a report on a data set (views, cameras, what looks wrong) and draws its cameras if asked to."""

    data: tyro.conf.Positional[Path]
    """Data folder, transforms.json, .npz archive or scene file; or an image, a mesh, a video, a volume."""
    output: Path | None = None
    """Picture of the cameras of a scene (.png), replaced if it exists; without it none is written."""
    splits: tuple[str, ...] = SPLITS
    """Views of other splits are neither opened nor decoded."""
    load: Annotated[ReadOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=ReadOptions)
    """How to read the data."""


@dataclass(frozen=True)
class MakeOptions:
    """Renders one of the project's own scenes, with its ground truth."""

    name: tyro.conf.Positional[str]
    """Name of the scene; an unknown one lists them."""
    output: Path | None = None
    """Folder to be made; default: data/NAME."""
    views: int = 60
    """Training views; there are a sixth as many for tests and a twelfth for validation."""
    resolution: int = 400
    """Width and height of the pictures."""
    mesh_resolution: int = 288
    """Cells of the ground-truth mesh along its longest side."""
    depth: bool = False
    """Depth maps beside the pictures, too, as depth cameras give them."""
    overwrite: bool = False
    """Replace a folder that this command has made."""


@dataclass(frozen=True)
class DownloadOptions:
    """Fetches a public data set from its authors' address and unpacks it."""

    name: tyro.conf.Positional[str] = ""
    """Name of the set; without it they are listed."""
    output: Path | None = None
    """Folder to be made; default: data/NAME."""
    url: str | None = None
    """Another address of the same file: a mirror, or file:///PATH of what a browser has fetched."""
    sha256: str | None = None
    """Expected hash of the file; default: that of the first download, kept in OUTPUT.sha256."""
    verify: bool = True
    """--no-verify takes the file whatever its hash is."""
    max_gigabytes: float = 64.0
    """Refuse to fetch or unpack more."""


def info(options: InfoOptions) -> int:
    from neurfield.cli._console import Progress
    from neurfield.data.camera_picture import draw
    from neurfield.data.load import read_manifest
    from neurfield.data.report import describe
    from neurfield.data.signals import kind_of, read

    kind = kind_of(options.data)
    if kind is not None:
        refuse_scene_options(options.load, options.data, kind)
        for flag, is_given in (("--splits", options.splits != SPLITS), ("--output", options.output is not None)):
            if is_given:
                raise UserError(f"{flag} is for scenes, and {options.data} is of the kind {kind}; leave it out")
        load = options.load.over(LoadOptions())
        with Progress("read") as progress:
            signal = read(options.data, kind, load.max_megapixels, progress.update)
        print(f"{kind}: {signal.info.describe()}")
        return 0
    output = options.output
    if output and output.suffix.lower() != ".png":
        raise UserError(f"{output}: the picture of the cameras is a PNG, expected a name that ends in .png")
    manifest = read_manifest(options.data, options.load, splits=options.splits)
    if output:
        refuse_existing(output, overwrite=True)
    _print(describe(manifest))
    if output:
        with atomic_path(output) as temporary:
            draw(manifest).save(temporary)
        print(f"picture of the cameras: {output}")
    return 0


def _print(report: "Report") -> None:
    """Plain text into files and pipes, a table with colours on a terminal."""
    if not sys.stdout.isatty():
        print(report.text())
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    table = Table(title=report.title, title_justify="left", show_header=False, box=None)
    for name, text in report.rows:
        table.add_row(Text(name, style="dim"), Text(text))
    console.print(table)
    for note in report.notes:
        console.print(Text(f"note: {note}", style="cyan"))
    for warning in report.warnings:
        console.print(Text(f"warning: {warning}", style="yellow"))


def make(options: MakeOptions) -> int:
    from neurfield.cli._console import Progress
    from neurfield.data import procedural
    from neurfield.data.procedural.make import make as make_scene
    from neurfield.registry import lookup

    lookup(dict.fromkeys(procedural.NAMES), options.name, "procedural scene")
    output = options.output or Path("data") / options.name
    with Progress(f"making {options.name}") as progress:
        make_scene(
            options.name,
            output,
            views=options.views,
            resolution=options.resolution,
            mesh_resolution=options.mesh_resolution,
            overwrite=options.overwrite,
            progress=progress.update,
            depths=options.depth,
        )
    print(f"{options.name} is in {output}")
    return 0


def download(options: DownloadOptions) -> int:
    from neurfield.cli._console import Progress
    from neurfield.data.archive import extract
    from neurfield.data.download import fetch, is_sha256, keep_hash, read_hash
    from neurfield.data.public_sets import PUBLIC_SETS
    from neurfield.registry import lookup

    if not options.name:
        for name, public in PUBLIC_SETS.items():
            print(f"{name:18} {public.about}\n{'':18} {public.page}")
        return 0
    public = lookup(PUBLIC_SETS, options.name, "public data set")
    if options.sha256 is not None and not is_sha256(options.sha256):
        raise UserError(f"--sha256: expected 64 hexadecimal digits, got {options.sha256!r}")
    output = options.output or Path("data") / options.name
    if output.exists():
        raise UserError(f"{output} exists; give another --output, or remove it")
    hash_file = output.with_name(f"{output.name}.sha256")
    expected = (options.sha256 or public.sha256 or read_hash(hash_file)) if options.verify else None
    max_bytes = int(options.max_gigabytes * 1e9)
    url = options.url or public.url
    target = output.with_name(f"{output.name}.download")  # beside it, so that a broken download leaves no folder
    with Progress(f"fetching {options.name}") as progress:
        found = fetch(url, target, expected, max_bytes, progress.update)
    if public.file:
        with atomic_folder(output) as folder:
            shutil.move(target, folder / public.file)
    else:
        with Progress(f"unpacking {options.name}") as progress:
            extract(target, output, max_bytes, progress.update)
        target.unlink()
    keep_hash(hash_file, found, url)
    verified = "as expected" if expected else f"not verified; kept in {hash_file}, later downloads must have it"
    print(f"SHA-256 {found}, {verified}")
    print(f"{options.name} is in {output}; licence and description: {public.page}")
    for path in _data_sets(output, SEARCH_DEPTH):
        print(f"  {path}")
    return 0


def _data_sets(folder: Path, depth: int) -> Iterator[Path]:
    """Folders that can be trained on, a few levels down."""
    from neurfield.data.load import detected

    if detected(folder) is not None:
        yield folder
    elif depth:
        for inner in sorted(path for path in folder.iterdir() if path.is_dir()):
            yield from _data_sets(inner, depth - 1)


COMMANDS = {
    "info": (InfoOptions, info),
    "make": (MakeOptions, make),
    "download": (DownloadOptions, download),
}
