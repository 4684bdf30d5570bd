package dagparser

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/dagbucket"
	"github.com/gustflow/gust/internal/dagprocessor"
	"github.com/gustflow/gust/internal/dagspec"
)

// Request asks for files to be parsed.
type Request struct {
	// Version of the program that asks: a parser of another one refuses.
	Version string `json:"version"`
	Bucket  string `json:"bucket"` // its name
	Prefix  string `json:"prefix"` // "" or ends in a slash
	// Parse are the names of the files, relative to Prefix, all in Manifest.
	Parse    []string `json:"parse"`
	Manifest []File   `json:"manifest"`
	// Env are the environment variables that DAG files may use, Variables the
	// Airflow variables known so far.
	Env       map[string]string `json:"env,omitempty"`
	Variables map[string]string `json:"variables,omitempty"`
	Config    dagspec.Config    `json:"config"`
	// TimeoutMS bounds the loading of one file.
	TimeoutMS int64 `json:"timeout_ms"`
}

// File is one file of the manifest: as JSON [name, version id, etag, size].
type File struct {
	Name, VersionID, ETag string
	Size                  int64
}

// MarshalJSON implements json.Marshaler.
func (f File) MarshalJSON() ([]byte, error) {
	return json.Marshal([]any{f.Name, f.VersionID, f.ETag, f.Size})
}

// UnmarshalJSON implements json.Unmarshaler.
func (f *File) UnmarshalJSON(b []byte) error {
	fields := []any{&f.Name, &f.VersionID, &f.ETag, &f.Size}
	if err := json.Unmarshal(b, &fields); err != nil || len(fields) != 4 {
		return fmt.Errorf("file of the manifest: expected [name, version id, etag, size], found %.100s", b)
	}
	return nil
}

// Object is the file as an object of the bucket.
func (f File) Object(prefix string) dagbucket.Object {
	return dagbucket.Object{Key: prefix + f.Name, VersionID: f.VersionID, ETag: f.ETag, Size: f.Size}
}

// Response holds the results of the first files of a request.
type Response struct {
	Version string   `json:"version"`
	Results []Result `json:"results"`
}

// Result is a dagprocessor.LoadResult of one file.
type Result struct {
	Path         string                    `json:"path"`
	DAGs         []Document                `json:"dags,omitempty"`
	Warnings     []airflow.Problem         `json:"warnings,omitempty"`
	Problems     []airflow.Problem         `json:"problems,omitempty"`
	Dependencies []dagprocessor.Dependency `json:"dependencies,omitempty"`
	Inputs       []string                  `json:"inputs,omitempty"`
	ValidUntil   time.Time                 `json:"valid_until,omitzero"`
	// Changed says that a file of the manifest is gone or replaced; Failure, that it
	// could not be read now.
	Changed bool   `json:"changed,omitempty"`
	Failure string `json:"failure,omitempty"`
}

// Document is one DAG.
type Document struct {
	DagID    string          `json:"dag_id"`
	Document json.RawMessage `json:"document"`
}

const (
	// MaxMessageBytes bounds a request and an answer: Lambda takes 6 MB.
	MaxMessageBytes = 5_800_000
	// maxPlainBytes is what is sent as it is.
	maxPlainBytes = 64 << 10
	// MaxUnpackedBytes bounds a message after it was unpacked.
	MaxUnpackedBytes = 96 << 20
)

type packed struct {
	Gzip []byte `json:"gzip"` // base64 in JSON
}

// Pack encodes a message. One that is too big even when compressed is
// airflow.ErrTooLarge.
func Pack(v any) ([]byte, error) { return pack(v, MaxMessageBytes) }

func pack(v any, limit int) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil || len(b) <= maxPlainBytes {
		return b, err
	}
	if len(b) > MaxUnpackedBytes {
		return nil, fmt.Errorf("message of %d bytes: %w", len(b), airflow.ErrTooLarge)
	}
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	if _, err := w.Write(b); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	if b, err = json.Marshal(packed{z.Bytes()}); err != nil {
		return nil, err
	}
	if len(b) > limit {
		return nil, fmt.Errorf("message of %d bytes: %w", len(b), airflow.ErrTooLarge)
	}
	return b, nil
}

// Unpack decodes a message.
func Unpack(b []byte, v any) error {
	var p packed
	if err := json.Unmarshal(b, &p); err != nil {
		return err
	}
	if p.Gzip == nil {
		return json.Unmarshal(b, v)
	}
	r, err := gzip.NewReader(bytes.NewReader(p.Gzip))
	if err != nil {
		return err
	}
	plain, err := io.ReadAll(io.LimitReader(r, MaxUnpackedBytes+1))
	if err != nil {
		return err
	}
	if len(plain) > MaxUnpackedBytes {
		return fmt.Errorf("message of more than %d bytes: %w", MaxUnpackedBytes, airflow.ErrTooLarge)
	}
	return json.Unmarshal(plain, v)
}
