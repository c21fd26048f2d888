"""The containers that may be opened, and how files in them are called.

All are self-contained: whatever such a file says, FFmpeg reads no other one for it. Playlists and descriptions (hls,
dash, concat, imf, sdp, rtsp, image2, webm_dash_manifest, ...) and the demuxers that look for a file beside theirs
(vobsub, mlv) are left out on purpose, as are bare streams without a clock (h264, mpegvideo, ...).
"""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Container:
    """One of FFmpeg's demuxers by all its names, and the endings of the files that it reads."""

    demuxers: str
    video: str = ""
    audio: str = ""


CONTAINERS: dict[str, Container] = {
    "MP4, QuickTime": Container("mov,mp4,m4a,3gp,3g2,mj2", "mp4 mov m4v 3gp 3g2 f4v mj2 qt", "m4a m4b"),
    "Matroska, WebM": Container("matroska,webm", "mkv webm mk3d", "mka"),
    "AVI": Container("avi", "avi divx"),
    "MPEG transport stream (AVCHD, broadcast)": Container("mpegts", "ts mts m2ts m2t tod tp trp"),
    "MPEG program stream (DVD, camcorders)": Container("mpeg", "mpg mpeg mpe m2p vob evo mod"),
    "MXF (broadcast, cameras)": Container("mxf", "mxf"),
    "GXF, LXF (playout servers)": Container("gxf,lxf", "gxf lxf"),
    "DV": Container("dv", "dv dif"),
    "Windows Media": Container("asf,asf_o", "asf wmv dvr-ms", "wma"),
    "Windows and MythTV recordings": Container("wtv,nuv", "wtv nuv"),
    "Flash video": Container("flv", "flv"),
    "RealMedia": Container("rm", "rm rmvb rv", "ra"),
    "Ogg": Container("ogg", "ogv ogm ogx", "ogg oga opus spx"),
    "NUT, IVF": Container("nut,ivf", "nut ivf"),
    "Surveillance, TV cards": Container("dhav,pva,nsv", "dav pva nsv"),
    "WAV, Wave64, AIFF, AU, CAF": Container("wav,w64,aiff,au,caf", "", "wav w64 aif aiff aifc au snd caf"),
    "MP3, AAC, AC-3, AMR": Container("mp3,aac,ac3,eac3,amr", "", "mp3 mp2 mpa aac ac3 eac3 ec3 amr"),
    "lossless sound": Container("flac,wv,ape,tta,tak,dsf", "", "flac wv ape tta tak dsf"),
    "Musepack, SPHERE, VOC": Container("mpc,mpc8,nistsphere,voc", "", "mpc sph voc"),
}
"""What is known, by the name that a person would give it."""

DEMUXERS = ",".join(container.demuxers for container in CONTAINERS.values())
"""FFmpeg's names of all of them: nothing else is ever opened, whatever a file is called."""

VIDEO_EXTENSIONS = frozenset(" ".join(container.video for container in CONTAINERS.values()).split())
AUDIO_EXTENSIONS = frozenset(" ".join(container.audio for container in CONTAINERS.values()).split())


def extension_of(path: str) -> str:
    """The ending of a file's name in lower case, without the dot; "" without one."""
    return os.path.splitext(path)[1].lstrip(".").lower()


def is_media(path: str) -> bool:
    """Whether a file's name has the ending of a video or of sound."""
    return extension_of(path) in VIDEO_EXTENSIONS | AUDIO_EXTENSIONS
