"""The settings of a run: plain data. In: flags, JSON or a program's arguments. Out: a `Config` whose groups fit.

Start with `config.py`. Each subpackage has a group of settings; `base` holds what the groups share. They define the
available names and the facts needed to fill in open values. What a name means is defined in its subpackage. This
package imports only the errors.
"""
