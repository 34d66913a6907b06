# SPDX-License-Identifier: MIT
"""The same work as others do it, each in the form that suits it best. None of it calls our compiled ops."""
