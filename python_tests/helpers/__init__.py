# SPDX-License-Identifier: MIT
"""Cases, builders and probes that several tests share."""
