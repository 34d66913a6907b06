# SPDX-License-Identifier: MIT
"""From depth frames to joints."""
