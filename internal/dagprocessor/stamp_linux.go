package dagprocessor

import (
	"io/fs"
	"syscall"
)

// changeTime returns the inode and the time of its last change: they differ
// after a file was replaced by one with the same size and modification time.
func changeTime(fi fs.FileInfo) (ino uint64, ctime int64) {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return st.Ino, st.Ctim.Nano()
	}
	return 0, 0
}
