# SPDX-License-Identifier: MIT
"""Data: readers, synthetic hands, augmentation."""
