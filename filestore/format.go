package filestore

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
)

// A CorruptError means that a file does not hold what was written to it. The file is
// kept, as it might be the only copy of a token. The error returns until somebody
// repairs or removes the file.
type CorruptError struct {
	File string // the file's name
	Err  error  // what is wrong with it
}

// Error returns a message that names the file, and nothing that is in it.
func (e *CorruptError) Error() string {
	return fmt.Sprintf("filestore: %s is corrupt: %v: restore the file, or remove it and log in again", e.File, e.Err)
}

// Unwrap returns e.Err.
func (e *CorruptError) Unwrap() error { return e.Err }

// format is the first line of a file: what it is, and the version of its format.
const format = "authtrip file 1\n"

// encode returns the content of the file of this name.
func encode(name, version string, value []byte) []byte {
	b := make([]byte, 0, len(format)+len(version)+1+2*sha256.Size+1+len(value))
	b = append(b, format...)
	b = append(b, version...)
	b = append(b, '\n')
	b = append(b, checksum(name, version, value)...)
	b = append(b, '\n')
	return append(b, value...)
}

// decode returns what encode was given.
func decode(name string, content []byte) (value []byte, version string, err error) {
	rest, ok := bytes.CutPrefix(content, []byte(format))
	if !ok {
		return nil, "", errors.New("it does not begin with " + format[:len(format)-1])
	}
	v, rest, _ := bytes.Cut(rest, []byte("\n"))
	sum, value, ok := bytes.Cut(rest, []byte("\n"))
	switch {
	case !ok:
		return nil, "", errors.New("it is cut short")
	case len(v) == 0 || string(sum) != checksum(name, string(v), value):
		return nil, "", errors.New("its checksum is wrong")
	}
	return value, string(v), nil
}

// checksum covers the name too, so that a file that was copied to the name of
// another key is noticed.
func checksum(name, version string, value []byte) string {
	h := sha256.New()
	h.Write([]byte(name + "\n" + version + "\n"))
	h.Write(value)
	return hex.EncodeToString(h.Sum(nil))
}
