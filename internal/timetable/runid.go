package timetable

import (
	"strings"
	"time"
)

// runTypes are the run types that prefix run ids.
var runTypes = []string{"backfill", "scheduled", "manual", "operator_triggered", "asset_triggered", "asset_materialization"}

// RunID is the id that a timetable gives to a run: its type and the time it may
// run after, in the zone that time carries. Scheduled runs are named after they
// were read back in UTC: pass runAfter.UTC().
func RunID(runType string, runAfter time.Time) string {
	return runType + "__" + isoFormat(runAfter)
}

// DagRunID is the id given to a run outside its timetable (for assets and by the
// CLI). Without a logical date, suffix is added to keep it unique: eight random
// ASCII letters or digits.
func DagRunID(runType string, logicalDate *time.Time, runAfter time.Time, suffix string) string {
	id := RunID(runType, runAfter)
	if logicalDate == nil {
		id += "_" + suffix
	}
	return id
}

// RunTypeOf reads the run type from a run id; "manual" where it names none.
func RunTypeOf(runID string) string {
	for _, t := range runTypes {
		if strings.HasPrefix(runID, t+"__") {
			return t
		}
	}
	return "manual"
}
