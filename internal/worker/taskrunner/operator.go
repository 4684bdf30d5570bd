package taskrunner

import (
	"context"
	"encoding/json"

	"github.com/gustflow/gust/internal/worker"
)

// Operator executes tasks of one class. It is shared by all dispatches.
type Operator interface {
	// Execute does the task's work. Ending ctx means stop: its cause says why.
	// The error decides the outcome, see errors.go; a nil Result is success
	// without a value. A resumed deferral has t.NextMethod set.
	Execute(ctx context.Context, t *Task) (*Result, error)
}

// OperatorFunc is a function that executes.
type OperatorFunc func(ctx context.Context, t *Task) (*Result, error)

// Execute calls the function.
func (f OperatorFunc) Execute(ctx context.Context, t *Task) (*Result, error) { return f(ctx, t) }

// Resolver finds operators by canonical class path.
type Resolver interface {
	// Resolve returns the operator of a class; an error says what to do instead.
	Resolve(class string) (Operator, error)
}

// Result is what a successful task leaves behind.
type Result struct {
	// Value is the return value as XCom JSON; nil or null is None, which is not pushed.
	Value json.RawMessage
	// Skip is the choice of a branch or short circuit.
	Skip *worker.SkipChoice
	// Outlets are what the task added to its outlets.
	Outlets []OutletAddition
}

// OutletAddition is what a task added to one of its outlets at run time.
type OutletAddition struct {
	Alias bool
	Name  string // of the asset or alias
	Extra json.RawMessage
	Added []AddedAsset // through an alias
}

// AddedAsset is an asset added to an alias.
type AddedAsset struct {
	Name, URI string
	Extra     json.RawMessage
}

// WholeTryTimeout is implemented by operators for which execution_timeout
// counts from the start of the try, because Airflow would hold the worker
// while they wait (sensors in mode poke).
type WholeTryTimeout interface {
	WholeTryTimeout(t *Task) bool
}
