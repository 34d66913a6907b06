# SPDX-License-Identifier: MIT
"""Tracking hands in a stream of depth frames from cameras and recordings."""

from poseren_ext.live.estimator import LiveEstimator, LiveResult, LiveStatistics
from poseren_ext.live.frames import StreamFrame
from poseren_ext.live.lines import LINE_VERSION, line_schema, result_line
from poseren_ext.live.recording import Recorder
from poseren_ext.live.smoothing import OneEuroFilter, OneEuroSettings
from poseren_ext.live.sources import RecordingSource, Source, SourceLost, open_source
from poseren_ext.live.tracking import HandTracker, TrackedHand

__all__ = [
    "LINE_VERSION",
    "HandTracker",
    "LiveEstimator",
    "LiveResult",
    "LiveStatistics",
    "OneEuroFilter",
    "OneEuroSettings",
    "Recorder",
    "RecordingSource",
    "Source",
    "SourceLost",
    "StreamFrame",
    "TrackedHand",
    "line_schema",
    "open_source",
    "result_line",
]
