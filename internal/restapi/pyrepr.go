package restapi

import (
	"encoding/json"
	"strings"

	"github.com/gustflow/gust/internal/jinja"
)

// PythonRepr is JSON as Python prints the value: {'a': [1, None]}.
func PythonRepr(raw json.RawMessage) string {
	v, err := jinja.ParseJSON(string(raw))
	if err != nil {
		return string(raw)
	}
	s, err := jinja.Repr(v)
	if err != nil {
		return string(raw)
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}
