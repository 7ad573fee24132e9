"""Where images come from. In: a folder, or the name of a set. Out: `reading.Examples`, uint8 RGB of one size.

Start with `reading.py`. `sources` resolves names, `layouts` lists the images of a folder, `folders` walks folders, and
`names` interprets file names. `folder_checks` refuses folders by name, `pairing` matches masks to images, and `unread`
reports what is left out. `prepared` reads sets of TensorFlow Datasets; `demo` draws the built-in ones. `decoding`
converts any file to 8-bit RGB, `masks` reads masks, and `image_set` reads images when pixels are needed. `synthetic`
draws the anomalies of Table 6. Only `prepared` loads TensorFlow.
"""
