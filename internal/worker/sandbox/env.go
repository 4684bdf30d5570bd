package sandbox

import (
	"os"
	"strings"

	"github.com/gustflow/gust/internal/worker/proc"
)

// keptNames are variables with a withheld prefix that give no rights and that
// programs want.
var keptNames = map[string]bool{"AWS_REGION": true, "AWS_DEFAULT_REGION": true}

// withheldPrefixes name what belongs to the host: credentials and the addresses
// they come from, the Runtime API, the function's own settings.
var withheldPrefixes = []string{"AWS_", "_AWS_", "_X_AMZN_", "LAMBDA_", "_LAMBDA_", "_HANDLER", "ECS_", "GUST_"}

// Withheld reports whether tasks may not see a variable of the host.
func Withheld(name string) bool {
	if keptNames[name] {
		return false
	}
	for _, p := range withheldPrefixes {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	return false
}

// Environ returns what tasks may see of the environment: without what Withheld
// and proc.CleanEnviron take away.
func Environ(environ []string) []string {
	out := make([]string, 0, len(environ))
	for _, kv := range proc.CleanEnviron(environ) {
		if name, _, _ := strings.Cut(kv, "="); !Withheld(name) {
			out = append(out, kv)
		}
	}
	return out
}

// ScrubEnv takes the host's rights out of this process's environment, so that no
// child can get them by inheritance, except the names given. Clients of AWS must
// have been configured before. The copy that the kernel keeps of the original
// environment is protected by Harden.
func ScrubEnv(keep ...string) {
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		kept := false
		for _, k := range keep {
			kept = kept || k == name
		}
		if !kept && Withheld(name) {
			os.Unsetenv(name)
		}
	}
}
