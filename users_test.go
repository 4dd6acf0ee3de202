package authtrip_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"example.com/authtrip"
)

// TestUsersTakeNoRecordWithoutAUserOrClaims: a literal, which has no claims, was recorded
// over what had been fetched.
func TestUsersTakeNoRecordWithoutAUserOrClaims(t *testing.T) {
	infoInBubble(t, nil, func(t *testing.T, _ *rig, info *authtrip.UserInfoSource) {
		users := new(authtrip.Users)
		fetched, err := info.UserInfo(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err = users.Put(t.Context(), fetched); err != nil {
			t.Fatal(err)
		}
		noIssuer, noSubject := *fetched, *fetched
		noIssuer.Issuer, noSubject.Subject = "", ""
		for want, bad := range map[string]*authtrip.UserInfo{
			"nil":     nil,
			"claims":  {Issuer: asURL, Subject: "alice", FetchedAt: time.Now()},
			"Issuer":  &noIssuer,
			"Subject": &noSubject,
		} {
			err := users.Put(t.Context(), bad)
			wantSafe(t, err, "alice", asURL)
			if err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("error = %v, want it to name %q", err, want)
			}
		}
		var claims struct {
			Subject string `json:"sub"`
		}
		kept, err := users.Get(t.Context(), asURL, "alice")
		if err == nil {
			err = kept.Claims(&claims)
		}
		if err != nil || claims.Subject != "alice" {
			t.Errorf("the record of before has sub %q, %v", claims.Subject, err)
		}
	})
}

// TestRecordsOfUsersHaveOneReading (rule 62): the last of two members counted, and names in
// capitals.
func TestRecordsOfUsersHaveOneReading(t *testing.T) {
	for name, c := range map[string]struct {
		doc  string
		good bool
	}{
		"as it is written": {`{"format":1,"iss":"i","sub":"alice","fetched_at":"2000-01-01T00:00:00Z","claims":{"sub":"alice"}}`, true},
		"of a later day":   {`{"format":1,"iss":"i","sub":"alice","fetched_at":"2000-01-01T00:00:00Z","claims":{"sub":"alice"},"new":1,"new":2}`, true},
		"two issuers":      {`{"format":1,"iss":"evil","iss":"i","sub":"alice","fetched_at":"2000-01-01T00:00:00Z","claims":{"sub":"alice"}}`, false},
		"in capitals":      {`{"format":1,"ISS":"i","Sub":"alice","fetched_at":"2000-01-01T00:00:00Z","claims":{"sub":"alice"}}`, false},
		"no claims":        {`{"format":1,"iss":"i","sub":"alice","fetched_at":"2000-01-01T00:00:00Z","claims":null}`, false},
		"other claims":     {`{"format":1,"iss":"i","sub":"alice","fetched_at":"2000-01-01T00:00:00Z","claims":[1]}`, false},
		"no time":          {`{"format":1,"iss":"i","sub":"alice","fetched_at":5,"claims":{"sub":"alice"}}`, false},
		"null":             {`null`, false},
		"nothing":          {``, false},
	} {
		t.Run(name, func(t *testing.T) {
			users := &authtrip.Users{Cache: &oddCache{value: c.doc}}
			info, err := users.Get(t.Context(), "i", "alice")
			if c.good {
				if err != nil || info.Subject != "alice" || info.FetchedAt.Year() != 2000 {
					t.Errorf("Get() = %+v, %v", info, err)
				}
				return
			}
			wantSafe(t, err, "alice", "evil")
		})
	}
}

// TestUsersInMemoryAreTenThousand: the promise at the type.
func TestUsersInMemoryAreTenThousand(t *testing.T) {
	infoInBubble(t, nil, func(t *testing.T, _ *rig, info *authtrip.UserInfoSource) {
		fetched, err := info.UserInfo(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		users := new(authtrip.Users)
		for i := range 10_001 {
			user := *fetched
			user.Subject = fmt.Sprint(i)
			if err := users.Put(t.Context(), &user); err != nil {
				t.Fatal(err)
			}
		}
		_, err = users.Get(t.Context(), asURL, "0")
		wantIs(t, err, authtrip.ErrNotFound)
		if _, err = users.Get(t.Context(), asURL, "1"); err != nil {
			t.Errorf("the second of 10,001: %v", err)
		}
	})
}
