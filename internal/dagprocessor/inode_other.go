//go:build !unix

package dagprocessor

import "io/fs"

// inode is not known here: real paths identify folders.
func inode(fs.FileInfo) (ino, dev uint64, ok bool) { return 0, 0, false }
