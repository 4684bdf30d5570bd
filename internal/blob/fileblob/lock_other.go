//go:build !unix

package fileblob

// lock is not needed for correctness of content; without flock a blob put again
// in the instant of its collection may be lost and is put again by its owner.
func (s *Store) lock(bool) (unlock func(), err error) { return func() {}, nil }
