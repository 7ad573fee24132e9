"""Where images come from. In: a folder, or the name of a set. Out: `reading.Examples`, uint8 RGB of one size.

Read `reading.py` first. `sources` finds what a name means, `layouts` what a folder holds, `folders` walks through it,
`names` says what names mean, `folder_checks` refuses by them, `pairing` tells images from masks, `unread` says what is
left out; `prepared` reads TensorFlow Datasets' sets, `demo` draws the built-in ones; `decoding` makes 8-bit RGB of any
file, `masks` reads masks; `image_set` reads when pixels are needed; `synthetic` draws the anomalies of Table 6. Nothing
here loads TensorFlow but `prepared`.
"""
