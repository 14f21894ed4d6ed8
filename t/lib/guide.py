"""guide - the examples of a manual page, so that a test does what the page says: .EX blocks, each below a comment `.\\" run: NAME`.

Lines of a block are `HOST# command` (root) or `HOST$ command` (the user cyrus), or lines of a configuration file. What is done with them is the test's;
unused() tells which blocks it has left out.
"""
import os
import re

import cyrd


class Guide:
    def __init__(self, page):
        self.blocks, self.used = {}, set()
        with open(os.path.join(cyrd.TOP, 'man', page)) as f:
            text = f.read()
        for m in re.finditer(r'^(?:\.\\" run: ([^\n]*)\n)?\.EX\n(.*?)^\.EE$', text, re.M | re.S):
            lines = m.group(2).replace('\\-', '-').replace('\\e', '\\').splitlines()
            name = m.group(1) or lines[0]       # without a name no test asks for it
            assert name not in self.blocks, name
            self.blocks[name] = [l for l in lines if l]

    def lines(self, name):
        self.used.add(name)
        return self.blocks[name]

    def commands(self, name):
        """(host, whether as root, the words) of each."""
        import shlex
        for l in self.lines(name):
            m = re.match(r'(\w+)([#$]) (.*)$', l)
            assert m, l
            yield m.group(1), m.group(2) == '#', shlex.split(m.group(3))

    def unused(self):
        return sorted(set(self.blocks) - self.used)
