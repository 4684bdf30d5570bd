package bundle

import (
	"context"
	"fmt"
	"io"

	"github.com/gustflow/gust/internal/airflow"
)

// MaxReadFile bounds a file that ReadFile returns.
const MaxReadFile = 4 << 20

// ReadFile returns the content of one file of a snapshot without materializing
// it. airflow.ErrNotFound: no such snapshot or file; airflow.ErrTooLarge: it has
// more than MaxReadFile bytes.
func (s *Store) ReadFile(ctx context.Context, hash, path string) ([]byte, error) {
	m, err := s.Manifest(ctx, hash)
	if err != nil {
		return nil, err
	}
	for _, f := range m.Files {
		if f.Path != path {
			continue
		}
		if f.Size > MaxReadFile {
			return nil, fmt.Errorf("file %s of bundle %s: %w: %d bytes, at most %d are shown", path, hash, airflow.ErrTooLarge, f.Size, MaxReadFile)
		}
		r, err := s.blobs.Get(ctx, f.SHA256)
		if err != nil {
			return nil, err
		}
		defer r.Close()
		return io.ReadAll(io.LimitReader(r, MaxReadFile))
	}
	return nil, fmt.Errorf("file %s of bundle %s: %w", path, hash, airflow.ErrNotFound)
}
