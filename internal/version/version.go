// Package version says which Gust this is.
package version

import "runtime/debug"

// Version is set by the linker (see the Makefile).
var Version = ""

// AirflowVersion is the release of Airflow whose semantics Gust follows.
const AirflowVersion = "3.3.2"

// String returns the version, from the build information where the linker set none.
func String() string {
	if Version != "" {
		return Version
	}
	if bi, ok := debug.ReadBuildInfo(); ok && bi.Main.Version != "" && bi.Main.Version != "(devel)" {
		return bi.Main.Version
	}
	return "dev"
}
