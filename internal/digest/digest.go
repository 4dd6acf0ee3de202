// Package digest makes names of which nothing can be read back, for caches and records that
// others may look into.
package digest

import (
	"crypto/sha256"
	"encoding/base64"
	"strconv"
)

// Of returns a name for parts, the same for the same ones. Each part is followed by its
// length, so that ("ab", "c") and ("a", "bc") differ.
func Of(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		h.Write([]byte(p))
		h.Write(strconv.AppendInt([]byte{0}, int64(len(p)), 10))
	}
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}
