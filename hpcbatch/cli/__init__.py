"""The command line: `hpcbatch NOUN VERB`, the grammar of `az ml`.

One module per noun holds its verbs: options, help and handler together. Handlers return data; only `render` prints.
Nothing is imported before it is needed, so that `hpcbatch --help` answers at once.
"""
