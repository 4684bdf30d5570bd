// Package python carries the Python side of Gust: the task runner that a worker
// starts for PythonOperator and its kin. The files travel inside the binary
// and are unpacked on first use, so a worker needs a CPython and nothing else.
package python

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

//go:embed runtime/boot.py runtime/gust_runner/*.py
var files embed.FS

// Boot is the path of the entry point below the folder that Unpack returns.
const Boot = "boot.py"

// Prefix begins the names of what Unpack makes in a cache folder.
const Prefix = "gust-python-"

// Hash identifies the content of the embedded files.
var Hash = sync.OnceValue(func() string {
	h := sha256.New()
	err := walk(func(name string, data []byte) error {
		fmt.Fprintf(h, "%s %d\n", name, len(data))
		h.Write(data)
		return nil
	})
	if err != nil {
		panic(err) // the embedded file system cannot fail to be read
	}
	return hex.EncodeToString(h.Sum(nil))[:16]
})

func walk(f func(name string, data []byte) error) error {
	return fs.WalkDir(files, "runtime", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := files.ReadFile(path)
		if err != nil {
			return err
		}
		return f(path[len("runtime/"):], data)
	})
}

// Unpack writes the files below cacheDir, into a folder named after their
// content, and returns it. Concurrent and repeated calls are harmless: the
// folder appears at once, complete. Only this user may read it.
func Unpack(cacheDir string) (string, error) {
	dir := filepath.Join(cacheDir, Prefix+Hash())
	if intact(dir) {
		return dir, nil
	}
	if err := os.MkdirAll(cacheDir, 0o700); err != nil {
		return "", err
	}
	tmp, err := os.MkdirTemp(cacheDir, Prefix+"new-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)
	err = walk(func(name string, data []byte) error {
		p := filepath.Join(tmp, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(p), 0o700); err != nil {
			return err
		}
		return os.WriteFile(p, data, 0o600)
	})
	if err != nil {
		return "", err
	}
	if err := os.Rename(tmp, dir); err == nil || intact(dir) {
		return dir, nil
	} else if !errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("unpack the Python task runner: %w", err)
	}
	// Something incomplete is in the way (a cleaner of temporary files took a part).
	if err := os.RemoveAll(dir); err != nil {
		return "", err
	}
	if err := os.Rename(tmp, dir); err != nil && !intact(dir) {
		return "", fmt.Errorf("unpack the Python task runner: %w", err)
	}
	return dir, nil
}

func intact(dir string) bool {
	return walk(func(name string, data []byte) error {
		st, err := os.Stat(filepath.Join(dir, filepath.FromSlash(name)))
		if err != nil {
			return err
		}
		if st.Size() != int64(len(data)) {
			return fs.ErrInvalid
		}
		return nil
	}) == nil
}
