# SPDX-License-Identifier: MIT
"""Tracking a hand in a stream of depth frames from cameras and recordings."""

from poseren_ext.live.estimator import LiveEstimator, LiveResult, LiveStatistics
from poseren_ext.live.frames import StreamFrame
from poseren_ext.live.recording import Recorder, result_line
from poseren_ext.live.sources import RecordingSource, Source, SourceLost, open_source
from poseren_ext.live.tracking import Tracker

__all__ = [
    "LiveEstimator",
    "LiveResult",
    "LiveStatistics",
    "Recorder",
    "RecordingSource",
    "Source",
    "SourceLost",
    "StreamFrame",
    "Tracker",
    "open_source",
    "result_line",
]
