// Package dagbucket reads DAG files from a bucket: a listing of one moment is the
// folder that the DAG processor scans, and the manifest of exact versions that
// the parser reads. Objects are read at exactly the version that was listed, so
// that a scan sees one state of the bucket however much is written meanwhile.
//
// Events of the bucket (ParseEvents) only say that something may have changed. They
// come late, twice and in any order; a listing is strongly consistent. So the
// listing decides, and an event can at most save one, when it tells a version that
// the last listing showed (Folder.Reflects).
//
// Package s3bucket implements the port Bucket on S3.
package dagbucket
