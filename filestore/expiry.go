package filestore

import (
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"example.com/authtrip"
)

// expiringName is a directory in Dir: for each record that was saved with a ttl it
// has an empty file of the same name, in a directory named by the hour in which the
// record expires. So those that are due are found without reading all the others.
const expiringName = "expiring"

const (
	hourLayout = "2006-01-02T15"
	// sweepShare is how many records a call drops at most. A call saves at most
	// one, so that expired ones do not pile up.
	sweepShare = 8
)

// newVersion returns a version that was never there. That of a record with a ttl
// has the time at which it expires after a space.
func newVersion(ttl time.Duration) string {
	if ttl == 0 {
		return rand.Text()
	}
	return rand.Text() + " " + time.Now().Add(ttl).UTC().Format(time.RFC3339Nano)
}

// expiryOf returns when the record of a version expires, and the zero time if it
// does not.
func expiryOf(version string) time.Time {
	_, text, _ := strings.Cut(version, " ")
	expiry, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return time.Time{}
	}
	return expiry
}

func expired(version string) bool {
	expiry := expiryOf(version)
	return !expiry.IsZero() && !time.Now().Before(expiry)
}

// noteExpiry sees to it that sweep finds a record. It is called before the record
// is saved: a note of nothing does no harm.
func (d *dir) noteExpiry(name string, expiry time.Time) error {
	hour := expiringName + "/" + expiry.UTC().Format(hourLayout)
	made := false
	for _, folder := range []string{expiringName, hour} {
		switch err := d.Mkdir(folder, 0o700); {
		case err == nil:
			made = true
		case !errors.Is(err, fs.ErrExist):
			return err
		}
	}
	f, err := d.OpenFile(hour+"/"+name, os.O_WRONLY|os.O_CREATE, 0o600)
	if err == nil {
		err = errors.Join(f.Close(), d.sync(hour))
	}
	if err == nil && made {
		err = d.sync(expiringName)
	}
	return err
}

// sweep drops a few of the records that have expired. The lock must be held. What
// cannot be dropped now stays for a later call.
func (d *dir) sweep() {
	hours, err := d.names(expiringName, -1)
	if err != nil {
		return
	}
	for _, hour := range hours {
		begin, err := time.Parse(hourLayout, hour)
		if err != nil || time.Since(begin) < time.Hour {
			continue
		}
		folder := expiringName + "/" + hour
		names, err := d.names(folder, sweepShare)
		for _, name := range names {
			if d.drop(name) {
				_ = d.Remove(folder + "/" + name)
			}
		}
		if err != nil || len(names) == sweepShare {
			return
		}
		_ = d.Remove(folder)
	}
}

// drop removes a record that has expired, and reports whether its note is of no
// more use: the record may have been deleted or saved again.
func (d *dir) drop(name string) bool {
	_, version, err := d.read(name)
	var corrupt *CorruptError
	switch {
	case errors.Is(err, authtrip.ErrNotFound), errors.As(err, &corrupt):
		return true
	case err != nil:
		return false
	case !expired(version):
		return true
	}
	return d.removeIfThere(name) == nil
}

// names returns at most n names of what is in a directory, or all if n is -1.
func (d *dir) names(folder string, n int) ([]string, error) {
	f, err := d.Open(folder)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	names, err := f.Readdirnames(n)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return names, err
}
