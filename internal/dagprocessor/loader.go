package dagprocessor

import (
	"context"
	"time"

	"github.com/gustflow/gust/internal/airflow"
)

// Loader reads DAG files. It is called concurrently for different files; a
// panic in it is reported as a problem of the file.
type Loader interface {
	// Load reads one file. What is wrong with the file is in the result.
	Load(ctx context.Context, f LoadRequest) LoadResult
	// Fingerprint changes whenever the same files might load differently: with the
	// program's version and with configuration.
	Fingerprint() string
	// Inputs returns a digest of the current values of inputs that an earlier Load
	// named (environment variables, Airflow variables). It reveals no value.
	Inputs(ctx context.Context, names []string) (string, error)
}

// BatchLoader is a Loader that takes many files at once, such as one that asks
// another machine. Loads of LoadAll are not bounded in time by the processor.
type BatchLoader interface {
	Loader
	// LoadAll returns the result of each file, in order.
	LoadAll(ctx context.Context, fs []LoadRequest) []LoadResult
}

// LoadRequest is a file to load.
type LoadRequest struct {
	Root    string // absolute path of the DAG folder
	Path    string // of the file, relative to Root, with slashes
	Content []byte // of the file
}

// LoadResult is what a file holds.
type LoadResult struct {
	DAGs []LoadedDAG
	// Warnings do not keep a DAG from loading; Problems kept one or all from it.
	Warnings, Problems []airflow.Problem
	// Dependencies are the files beside the one loaded whose content decided the
	// result, also those that were looked for and are missing.
	Dependencies []Dependency
	// Inputs are names of other inputs, for Loader.Inputs.
	Inputs []string
	// ValidUntil is when the result may change by itself (dates relative to
	// today); zero = never.
	ValidUntil time.Time
	// Err is a failure that is not the file's, such as a loader elsewhere that does
	// not answer: what is registered stays, and the file is loaded again.
	Err error
}

// LoadedDAG is a DAG in Airflow's serialized form with Gust's extension, whose
// SourceFiles make the bundle snapshot.
type LoadedDAG struct {
	DagID    airflow.DagID
	Document []byte
}

// Dependency is a file that a load depended on.
type Dependency struct {
	// Path is relative to the DAG folder, with slashes, or absolute for a file
	// outside of it.
	Path string `json:"p"`
	// Hash is that of the content the loader read; Missing if there was no file.
	Hash string `json:"h"`
	// Mode is the file's in the bundle snapshot; "" if only its content matters. A
	// loader leaves it empty.
	Mode string `json:"m,omitempty"`
}

// Missing stands for the content hash of a file that does not exist.
const Missing = "-"
