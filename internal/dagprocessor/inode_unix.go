//go:build unix

package dagprocessor

import (
	"io/fs"
	"syscall"
)

// inode identifies a file whatever path leads to it.
func inode(fi fs.FileInfo) (ino, dev uint64, ok bool) {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, 0, false
	}
	return uint64(st.Ino), uint64(st.Dev), true //nolint:unconvert // types differ between systems
}
