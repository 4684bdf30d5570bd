package restapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/store/kv"
)

// Error is an answer other than success. Detail is a text, or what Airflow has
// in its place (an object, a list of FieldError).
type Error struct {
	Status int
	Detail any
	Header http.Header
	cause  error
}

// Error implements error.
func (e *Error) Error() string {
	if s, ok := e.Detail.(string); ok {
		return s
	}
	b, err := json.Marshal(e.Detail)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// Unwrap returns what led to the answer, if there is something.
func (e *Error) Unwrap() error { return e.cause }

// Errorf returns an answer with a text.
func Errorf(status int, format string, args ...any) *Error {
	return &Error{Status: status, Detail: fmt.Sprintf(format, args...)}
}

// NotFound is 404 with a text.
func NotFound(format string, args ...any) *Error {
	return Errorf(http.StatusNotFound, format, args...)
}

// BadRequest is 400 with a text.
func BadRequest(format string, args ...any) *Error {
	return Errorf(http.StatusBadRequest, format, args...)
}

// Conflict is 409 with a text.
func Conflict(format string, args ...any) *Error {
	return Errorf(http.StatusConflict, format, args...)
}

// Unprocessable is 422 with a text; wrong fields are 422 with a list (Invalid).
func Unprocessable(format string, args ...any) *Error {
	return Errorf(http.StatusUnprocessableEntity, format, args...)
}

// UniqueDetail is the detail with which Airflow answers what its database
// refuses because it is there already (runs, connections, pools, favourites).
type UniqueDetail struct {
	Reason    string `json:"reason"`
	Statement string `json:"statement"`
	OrigError string `json:"orig_error"`
	Message   string `json:"message"`
}

// NotUnique is 409 with a UniqueDetail that says what is there already.
func NotUnique(format string, args ...any) *Error {
	return &Error{Status: http.StatusConflict, Detail: UniqueDetail{
		Reason: "Unique constraint violation", Statement: "hidden", OrigError: "hidden", Message: fmt.Sprintf(format, args...),
	}}
}

// FieldError is one thing that is wrong with a request, in the form of Airflow's
// framework. Loc begins with query, path, header or body.
type FieldError struct {
	Type  string          `json:"type"`
	Loc   []any           `json:"loc"`
	Msg   string          `json:"msg"`
	Input json.RawMessage `json:"input"`
	Ctx   map[string]any  `json:"ctx,omitempty"`
}

// Invalid is 422 with a list of what is wrong.
func Invalid(errs ...FieldError) *Error {
	return &Error{Status: http.StatusUnprocessableEntity, Detail: errs}
}

// answerOf turns any error into an answer. What nobody expected becomes 500 with
// internal set.
func answerOf(err error) (e *Error, internal bool) {
	var known *Error
	var invalid *airflow.InvalidError
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &known):
		return known, false
	case errors.As(err, &tooLarge):
		return Errorf(http.StatusRequestEntityTooLarge, "The body is larger than %d bytes", tooLarge.Limit), false
	case errors.As(err, &invalid):
		return &Error{Status: http.StatusBadRequest, Detail: invalid.Error(), cause: err}, false
	case errors.Is(err, kv.ErrInvalid): // a key that the store cannot hold: empty, or too long
		return &Error{Status: http.StatusUnprocessableEntity, Detail: "The name cannot be stored: it is empty or too long", cause: err}, false
	case errors.Is(err, airflow.ErrNotFound):
		return &Error{Status: http.StatusNotFound, Detail: err.Error(), cause: err}, false
	case errors.Is(err, airflow.ErrAlreadyExists), errors.Is(err, airflow.ErrConflict), errors.Is(err, airflow.ErrNotAllowed):
		return &Error{Status: http.StatusConflict, Detail: err.Error(), cause: err}, false
	case errors.Is(err, airflow.ErrTooLarge):
		return &Error{Status: http.StatusRequestEntityTooLarge, Detail: err.Error(), cause: err}, false
	case errors.Is(err, airflow.ErrThrottled), errors.Is(err, airflow.ErrUnavailable):
		return &Error{Status: http.StatusServiceUnavailable, Detail: "The store does not answer at the moment; try again", Header: http.Header{"Retry-After": {"1"}}, cause: err}, false
	}
	return &Error{Status: http.StatusInternalServerError, Detail: "Internal Server Error", cause: err}, true
}
