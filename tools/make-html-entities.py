#!/usr/bin/env python3
"""Writes Sources/WanModel/Text/HTMLEntityTable.swift from the table of HTML 5 in Python's standard library.

usage: make-html-entities.py > Sources/WanModel/Text/HTMLEntityTable.swift
"""
import textwrap
from html.entities import html5

words = []
for name in sorted(n for n in html5 if n.endswith(";")):
    bare = name[:-1]
    points = ",".join(f"{ord(c):x}" for c in html5[name])
    words.append(f"{bare}{'!' if bare in html5 else ':'}{points}")
print("""// Made by tools/make-html-entities.py.

extension HTMLEntities {
  /// The named character references of HTML 5: `name:code`, or `name!code` for those that need no semicolon; code points in
  /// hexadecimal.
  static let list = \"\"\"""")
print("\n".join("    " + line for line in textwrap.wrap(" ".join(words), 114, break_long_words=False, break_on_hyphens=False)))
print('    """\n}')
