package store

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/store/kv"
)

// Keys are built and read here only. A key is a list of segments joined by '#';
// a segment is escaped so that any text round-trips and no key is a prefix of
// another of the same kind by accident: '%' and '#' become %25 and %23.

var segmentEscaper = strings.NewReplacer("%", "%25", "#", "%23")
var segmentUnescaper = strings.NewReplacer("%23", "#", "%25", "%")

// joinKey escapes and joins segments.
func joinKey(segments ...string) string {
	n := len(segments)
	for _, s := range segments {
		n += len(s)
	}
	var b strings.Builder
	b.Grow(n)
	for i, s := range segments {
		if i > 0 {
			b.WriteByte('#')
		}
		if strings.ContainsAny(s, "%#") {
			s = segmentEscaper.Replace(s)
		}
		b.WriteString(s)
	}
	return b.String()
}

// splitKey is the inverse of joinKey.
func splitKey(key string) []string {
	parts := strings.Split(key, "#")
	for i, p := range parts {
		if strings.Contains(p, "%") {
			parts[i] = segmentUnescaper.Replace(p)
		}
	}
	return parts
}

// The kinds of partition; the first segment of every PK.
const (
	kindDAG         = "DAG"
	kindDoc         = "DOC"
	kindRun         = "RUN"
	kindRunLD       = "RUNLD"
	kindTI          = "TI"
	kindPool        = "POOL"
	kindVariable    = "VARIABLE"
	kindConnection  = "CONNECTION"
	kindAsset       = "ASSET"
	kindAssetEvent  = "ASSETEVENT"
	kindAssetQueue  = "ASSETQUEUE"
	kindBackfill    = "BACKFILL"
	kindImportError = "IMPORTERROR"
	kindAudit       = "AUDIT"
	kindBundle      = "BUNDLE"
	kindEffect      = "EFFECT"
)

// Sort keys.
const (
	skMeta    = "META"
	skInfo    = "INFO"
	skTrouble = "TROUBLE"
	skDone    = "DONE"
	skRow     = "ROW"
	skChunk   = "CHUNK"
	skVersion = "VERSION"
	skTry     = "TRY"
	skXCom    = "XCOM"
	// skXComPart holds the further parts of a large XCom.
	skXComPart = "XCOMPART"
	skPart     = "PART"
)

func dagPK(id airflow.DagID) string { return joinKey(kindDAG, string(id)) }

// versionSK sorts by number.
func versionSK(n int) string { return joinKey(skVersion, fmt.Sprintf("%010d", n)) }

func runPK(k RunKey) string { return joinKey(kindRun, string(k.DagID), string(k.RunID)) }

// RunOfItem returns the run that an item belongs to; ok is false for items of no run.
func RunOfItem(key kv.Key) (k RunKey, ok bool) {
	p := splitKey(key.PK)
	switch {
	case len(p) == 3 && p[0] == kindRun, len(p) == 5 && p[0] == kindTI:
		return RunKey{DagID: airflow.DagID(p[1]), RunID: airflow.RunID(p[2])}, true
	}
	return RunKey{}, false
}

func chunkSK(n int) string { return joinKey(skChunk, fmt.Sprintf("%06d", n)) }

func runLDPK(dag airflow.DagID, logicalDate time.Time) string {
	return joinKey(kindRunLD, string(dag), sortableTime(logicalDate))
}

func tiPK(k airflow.TaskInstanceKey) string {
	return joinKey(kindTI, string(k.DagID), string(k.RunID), string(k.TaskID), strconv.Itoa(k.MapIndex))
}

func trySK(n int) string { return joinKey(skTry, fmt.Sprintf("%06d", n)) }

func xcomSK(key string) string { return joinKey(skXCom, key) }

// sortableTime renders t in UTC so that text order is time order, to the microsecond.
func sortableTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000000Z") }

func parseSortableTime(s string) (time.Time, error) {
	return time.Parse("2006-01-02T15:04:05.000000Z", s)
}

// afterPrefix returns the smallest key greater than every key with this prefix.
func afterPrefix(prefix string) string { return prefix + "\U0010FFFF" }
