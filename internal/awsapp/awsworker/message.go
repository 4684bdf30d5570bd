package awsworker

import (
	"encoding/json"
	"strings"

	"github.com/gustflow/gust/internal/awsapp"
)

// callbackID reads a message that asks for a callback.
func callbackID(body string) (string, bool) {
	if !strings.Contains(body, `"callback"`) {
		return "", false
	}
	var m awsapp.CallbackMessage
	err := json.Unmarshal([]byte(body), &m)
	return m.Callback, err == nil && m.Callback != ""
}
