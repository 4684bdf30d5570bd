// Package dagprocessor keeps the Store's DAGs in step with a folder of DAG files.
//
//	scan      walk the folder: suffixes, .airflowignore, symbolic links, limits
//	compare   content hashes of each file and of all it depends on
//	parse     what changed, in parallel, each file on its own (Loader)
//	register  snapshot, document, version, DagModel, assets, import error
//	watch     fsnotify with a debounce, and a full scan now and then as backstop
//
// Everything is decided by comparing the folder with what was registered last,
// never by what an event says: a lost event costs time, not truth. Events only
// say when to look and which files to read although their stat is unchanged.
// What was registered last is kept in a small cache in the home, so that a warm
// start reads no unchanged file; whatever the cache says is checked against the
// Store first, and without it everything is parsed again.
//
// # What happens to a DAG
//
//	new                       version 1, paused unless the DAG or the configuration says otherwise
//	document changed          a new version if the current one has runs, else it is overwritten
//	other files changed       the same version, with the new bundle hash for runs to come
//	file broken               an import error; DAGs that did not load keep their last good
//	                          version, have HasImportErrors and get no new runs
//	not in its file any more  stale at once
//	file gone                 stale after StaleThreshold (a moved file is found before)
//	back                      no longer stale
//	dag_id of another file    an import error that names both files; the first one keeps it
//
// A file that cannot be read, whether one or a whole folder, never makes a DAG
// stale.
package dagprocessor
