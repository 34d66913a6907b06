# SPDX-License-Identifier: MIT
"""One module a subject: what is done, by whom, and how it is known to be the same."""
