module weir.test/fetch

go 1.22
