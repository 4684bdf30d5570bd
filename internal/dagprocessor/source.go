package dagprocessor

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/gustflow/gust/internal/airflow"
)

// Source is where DAG files lie: a folder of this machine, or the listing of a
// bucket. Names are relative to its root, with slashes; "" is the root. A source
// that is a folder of this machine takes absolute paths, too, for files outside of
// it. Methods may be called concurrently, except Refresh.
type Source interface {
	// Root names the folder for people and for the cache: an absolute path or a URL.
	Root() string
	// Refresh takes a new look at what is there, before a scan. An error means that
	// the folder cannot be read: nothing is concluded from it.
	Refresh(ctx context.Context) error
	// ReadDir returns the entries of a folder, by name.
	ReadDir(name string) ([]fs.DirEntry, error)
	// Stat describes a file or folder, following symbolic links; one that is missing
	// is fs.ErrNotExist. A FileInfo that implements Versioned tells versions apart.
	Stat(name string) (fs.FileInfo, error)
	// Open reads a file as Stat described it. One that has changed since is
	// ErrChanging.
	Open(ctx context.Context, name string) (io.ReadCloser, error)
	// Identity is the same for all paths that lead to one folder.
	Identity(name string) (string, error)
	// Name is how people call a file, such as its absolute path or its URL.
	Name(name string) string
}

// Versioned is a FileInfo whose version stands for the content: two different
// contents never have the same.
type Versioned interface{ Version() string }

// Troubled is a Source that knows what is wrong with the folder as a whole, since
// the last Refresh; people see it as an import error of the folder.
type Troubled interface{ Problems() []string }

// ErrChanging says that a file is not any more what the last Refresh saw: the
// folder is looked at again.
var ErrChanging = fmt.Errorf("the file has changed since it was listed: %w", airflow.ErrUnavailable)

// Folder returns the source of a folder of this machine; the path is absolute.
func Folder(path string) Source { return osFolder{path} }

type osFolder struct{ root string }

func (f osFolder) Root() string { return f.root }

func (f osFolder) Refresh(context.Context) error {
	if fi, err := os.Stat(f.root); err != nil {
		return fmt.Errorf("DAG folder: %w", err)
	} else if !fi.IsDir() {
		return fmt.Errorf("DAG folder %s is not a folder", f.root)
	}
	return nil
}

func (f osFolder) Name(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(f.root, filepath.FromSlash(name))
}

func (f osFolder) ReadDir(name string) ([]fs.DirEntry, error) { return os.ReadDir(f.Name(name)) }

func (f osFolder) Stat(name string) (fs.FileInfo, error) { return os.Stat(f.Name(name)) }

func (f osFolder) Open(_ context.Context, name string) (io.ReadCloser, error) {
	return os.Open(f.Name(name))
}

func (f osFolder) Identity(name string) (string, error) {
	abs := f.Name(name)
	fi, err := os.Stat(abs)
	if err != nil {
		return "", err
	}
	if ino, dev, ok := inode(fi); ok {
		return fmt.Sprintf("%d:%d", dev, ino), nil
	}
	return filepath.EvalSymlinks(abs)
}
