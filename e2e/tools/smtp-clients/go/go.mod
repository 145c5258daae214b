module smtp-client

go 1.26
